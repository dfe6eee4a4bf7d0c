"""What features say that they keep, against the bytes that they really keep, in the ledger at its fullest."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from longreel.engine.attention.kv_share import ALIGNED, EXTEND, FIRST, PREVIOUS, REPLACE
from longreel.engine.plan.needs import EIGHT_BIT, FULL, MAIN_MEMORY, Keep, Need
from longreel.hosts import block_count
from longreel.hosts.attention import patching, reserve
from longreel.hosts.attention.ledger import LEDGER
from longreel.hosts.attention.remedies import keeping
from longreel.hosts.features.kv_share import KVShare
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.features.prompt_edit import attach as attach_edit
from longreel.hosts.memory.long_memory import BEFORE, VIDEO, LongMemory
from longreel.hosts.memory.short_memory import KeysAndValues
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.rollout_cases import roll, story
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

FAMILIES = ["wan21", "wan22_5b", "cogvideox10", "cogvideox15", "hunyuan_video", "ltxv"]
OFF = 0.1  # that an estimate may be off


def share(layers: frozenset[int], **changed) -> KVShare:
    settings = {
        "mode": "fast", "source": PREVIOUS, "source_shot": 1, "shots": (), "across_cuts": True, "join": REPLACE,
        "placement": ALIGNED, "strength": 1.0, "share_text": True, "layers": layers, "start_percent": 0.0,
        "end_percent": 1.0, "mask": None,
    }  # fmt: skip
    return KVShare(**settings | changed)


FEATURES: dict[str, Callable] = {
    "KV Share previous": share,
    "KV Share first, extend, every other frame": lambda layers: share(
        layers, source=FIRST, join=EXTEND, keep=Keep(every_frames=2)
    ),
    "Prompt Edit": lambda layers: PromptEdit(layers, layout=Layout(None, 0.0, 1.0)),
    "Long Memory": lambda layers: LongMemory(VIDEO, 2, BEFORE, 1.0, layers, 0.5),
    "Short Memory": lambda layers: KeysAndValues(2, 1.0, 0.0, layers),
}


def measured(loaded, feature, monkeypatch, cfg: float = 3.0) -> tuple[Need, int, int]:
    """What a run of the feature is planned with; the most bytes in the ledger that are kept, and that travel."""
    most, most_slots = 0, 0

    def look(call, next_attention):
        nonlocal most, most_slots
        watcher.calls.clear()  # it holds keys and values
        lines = [line for line in LEDGER.lines(feature.name) if "keys and values" in line.what]
        slots = sum(line.size_bytes for line in lines if "slot" in line.what)
        most_slots = max(most_slots, slots)
        most = max(most, sum(line.size_bytes for line in lines) - slots)
        return next_attention(call.q, call.k, call.v, call.mask)

    needs = []
    check = reserve.RunMemory.check
    monkeypatch.setattr(reserve.RunMemory, "check", lambda run: needs.extend(run.plan.needs) or check(run))
    watcher = Watcher(look)  # inside: it is asked when the feature has kept a call's and not yet let go of another's
    model = patching.attach(loaded.model, watcher)
    attach = attach_edit if isinstance(feature, PromptEdit) else patching.attach
    model = attach(model, feature)
    if isinstance(feature, (LongMemory, KeysAndValues)):
        roll(loaded, story(loaded.model), model, steps=2, cfg=cfg)
    else:
        timeline = timeline_for(loaded.model)
        model = latent_blend.attach(model, timeline, "triangle")
        tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1, cfg=cfg)
    return max((need for need in needs if need.name == feature.name), key=lambda need: need.kept), most, most_slots


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("what", FEATURES)
def test_a_feature_keeps_what_it_says(tiny, name, what, monkeypatch):
    loaded = tiny(name)
    feature = FEATURES[what](frozenset(range(block_count(loaded.model))))
    need, kept, slots = measured(loaded, feature, monkeypatch)
    assert need.kept and abs(kept - need.kept) <= OFF * need.kept, (kept, need.kept)
    assert slots == 0


@pytest.mark.parametrize("cfg", [3.0, 1.0])
@pytest.mark.parametrize("form", [FULL, EIGHT_BIT])
@pytest.mark.parametrize("what", ["KV Share previous", "Short Memory"])
def test_what_main_memory_holds_is_what_was_said(tiny, what, form, cfg, monkeypatch):
    """Also in 8 bits, and where one prompt is evaluated alone."""
    loaded = tiny("cogvideox10")
    feature = FEATURES[what](frozenset({1, 2}))
    feature = keeping(feature, replace(Keep(), place=MAIN_MEMORY, form=form))
    need, kept, slots = measured(loaded, feature, monkeypatch, cfg)
    assert need.in_main_memory(MAIN_MEMORY) and abs(kept - need.kept) <= OFF * need.kept, (kept, need.kept)
    assert 0 < slots <= need.slots, (slots, need.slots)
