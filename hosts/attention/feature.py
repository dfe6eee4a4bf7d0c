"""What a feature is: its settings, one run of a sampler, and what both are told.

hosts/attention/patching.py begins the runs, tells them of every evaluation of the network, and hands them attention.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...engine.plan.card_memory import MemoryPlan
from ...engine.plan.needs import AttentionSize, Need
from ..families.family import Family
from ..families.sites import Call, Forward

WHOLE = "whole"  # the role of a segment that no feature asks for in another one


@dataclass(frozen=True)
class Start:
    """This is what a feature is told before sampling.

    `handler` is the context handler in charge, ours with its `timeline`, or another's, or None; `conds` are the
    guider's lists by name, before core processes them. `places` says where each feature, by its name, is to keep what
    it keeps: CARD or MAIN_MEMORY of engine/plan/needs.py.
    """

    model: Any  # comfy.model_base.BaseModel
    family: Family
    handler: Any
    conds: dict[str, list[dict]]
    sigmas: torch.Tensor
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """The runs of all features are kept in transformer_options while a sampler runs, and where they keep what."""

    family: Any
    names: tuple[str, ...]  # of the nodes
    runs: tuple["Run", ...]
    memory: MemoryPlan


@dataclass(frozen=True)
class Evaluation:
    """This is one evaluation of the network.

    It says the number of the segment that is seen (None without a timeline), in which role a feature asked for it, at
    which sigma, and the conditioning lists, by core's numbers of them. It takes one forward, or several where prompts
    are not seen in one batch; `forwards` collects those that were begun.
    """

    segment: int | None
    role: str
    sigma: float
    conds: list[list[dict] | None]
    forwards: list[Forward] = field(default_factory=list, repr=False)


class Run(Protocol):
    """A feature at work in one run of a sampler.

    One that cannot do with fewer evaluations of the network than steps ask for says `needs_every_evaluation`.
    """

    def roles(self, segment: int) -> tuple[str, ...]:
        """Return the roles in which this segment is evaluated in every step; their predictions are blended alike."""

    def begin(self, evaluation: Evaluation) -> None:
        """Take note that the network is about to see this."""

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Return whether `attend` is to be asked in this block's attention."""

    def attend(self, call: Call, next_attention: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return [B, H, Sq, D] for a call.

        `next_attention(q, k, v, mask)` is the next feature's attention, and at last the network's.
        """


class Bystander:
    """A run that leaves attention alone: it asks for no role, keeps nothing and attends to no call."""

    def roles(self, segment: int) -> tuple[str, ...]:
        """Return no role: the segment is evaluated as it is."""
        return ()

    def begin(self, evaluation: Evaluation) -> None:
        """Keep nothing from one evaluation to the next."""

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Want no call."""
        return False

    def attend(self, call: Call, next_attention: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return [B, H, Sq, D] as the next attention gives it."""
        return next_attention(call.q, call.k, call.v, call.mask)


class Feature(Protocol):
    """A feature is the settings of one method, and what the rest of the pack must know of it.

    name: its node's. excludes: names of nodes that cannot work beside it, by reason. Two that replace keys cannot work
    on one model either. A feature that does not say `replaces_keys` does not; one without `not_in_rollout` works there.
    """

    name: str
    excludes: dict[str, str]
    replaces_keys: bool  # whether attention reads others in place of the network's own keys and values
    not_in_rollout: str | None  # why it cannot work where one chunk is sampled after another, and what to do

    def start(self, start: Start) -> Run:
        """Begin a run of a sampler.

        Raises ValueError where this model, timeline or conditioning cannot be served.
        """

    def need(self, size: AttentionSize) -> Need:
        """Return what a run needs of memory at most, where the network is shown evaluations of this size."""
