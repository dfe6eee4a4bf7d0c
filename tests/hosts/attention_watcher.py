"""A feature of hosts/attention/patching.py for tests: it sees every attention call and evaluation, and acts as it is
told."""

import weakref
from typing import ClassVar

from longreel.engine.plan.needs import Need


class Watcher:
    """A feature that does with each call what it is told, by default nothing, and remembers what it saw."""

    excludes: ClassVar[dict[str, str]] = {}

    def __init__(self, act=None, wants=lambda kind, block: True, name="Watcher"):
        self.act, self._wants, self.name = act, wants, name
        self.calls, self.evaluations, self.runs = [], [], []

    def start(self, start):
        run = WatcherRun(self)
        self.runs.append(weakref.ref(run))
        return run

    def need(self, size):
        return Need(self.name)


class WatcherRun:
    def __init__(self, feature: Watcher):
        self.feature = feature

    def roles(self, segment):
        return ()

    def begin(self, evaluation):
        self.feature.evaluations.append(evaluation)

    def wants(self, kind, block, evaluation):
        return self.feature._wants(kind, block)

    def attend(self, call, next_attention):
        self.feature.calls.append(call)
        if self.feature.act:
            return self.feature.act(call, next_attention)
        return next_attention(call.q, call.k, call.v, call.mask)
