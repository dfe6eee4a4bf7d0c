"""Every feature that keeps keys and values gives the same video to the bit wherever it keeps them.

The groups of heads are one head each here, so that several travel; the ledger is read at every attention call.
"""

import dataclasses

import pytest
import torch

from longreel.engine.attention.kv_share import EXTEND, FIRST, TRUE
from longreel.engine.plan.needs import CARD, EIGHT_BIT, MAIN_MEMORY, Keep
from longreel.hosts import block_count
from longreel.hosts.attention import patching
from longreel.hosts.attention.ledger import LEDGER
from longreel.hosts.features import prompt_edit
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.kv_share import PAPER
from longreel.hosts.features.prompt_edit import Layout, PromptEdit, Reweight
from longreel.hosts.memory.long_memory import BEFORE, VIDEO, LongMemory
from longreel.hosts.memory.short_memory import KeysAndValues
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts import rollout_cases
from tests.hosts.attention_watcher import Watcher
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

ALL = frozenset(range(100))
SHARED = dataclasses.replace(PLAIN, layers=ALL)
FEATURES = {
    "previous": SHARED,
    "true": dataclasses.replace(SHARED, placement=TRUE, join=EXTEND),
    "first": dataclasses.replace(SHARED, source=FIRST, join=EXTEND, share_text=False, strength=0.7),
    "paper": dataclasses.replace(SHARED, mode=PAPER, mask=Mask(("scene",), 0.3)),
    "every second frame": dataclasses.replace(SHARED, source=FIRST, mask=Mask(("scene",), 0.3)),
    "edit": PromptEdit(ALL, layout=Layout(None, 0.0, 1.0)),
    "reweight": PromptEdit(ALL, Reweight(("scene",), 3.0, "after softmax", 0.0, 1.0), Layout(None, 0.0, 1.0)),
    "short": KeysAndValues(2, 0.8, 0.1, ALL),
    "long": LongMemory(VIDEO, 2, BEFORE, 1.0, ALL, 0.0),
}


@pytest.fixture(autouse=True)
def one_head_at_a_time(monkeypatch):
    for place in ("longreel.engine.plan.needs", "longreel.hosts.attention.kv_cache"):
        monkeypatch.setattr(f"{place}.heads_of_group", lambda size, heads: 1)


def kept_so(feature, loaded, place, form="full", every=1):
    layers = frozenset(range(block_count(loaded.model)))
    if hasattr(feature, "place"):
        return dataclasses.replace(feature, place=place, form=form, layers=layers)
    return dataclasses.replace(feature, keep=Keep(place, form, every), layers=layers)


def video(loaded, feature, look=None):
    """The latent [1, C, F, H, W] that a feature makes; `look()` is called after every attention."""
    model = patching.attach(loaded.model, feature) if not isinstance(feature, PromptEdit) else None
    model = prompt_edit.attach(loaded.model, feature) if model is None else model
    if look:

        def act(call, next_attention):
            out = next_attention(call.q, call.k, call.v, call.mask)
            look()
            return out

        model = patching.attach(model, Watcher(act))
    if isinstance(feature, KeysAndValues | LongMemory):
        return rollout_cases.roll(loaded, rollout_cases.story(loaded.model), model, steps=1)
    timeline = timeline_for(loaded.model)
    model = latent_blend.attach(model, timeline, "triangle")
    return tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1)


CASES = [(family, name) for family in ("wan22_5b", "cogvideox15", "ltxv") for name in ("previous", "long")]
CASES += [(family, name) for family in ("wan21", "hunyuan_video") for name in FEATURES]


@pytest.mark.parametrize("family, name", CASES)
def test_main_memory_gives_the_same_bits_as_the_card_and_eight_bits_nearly(tiny, family, name):
    loaded, feature = tiny(family), FEATURES[name]
    every = 2 if name == "every second frame" else 1
    made, places = {}, set()
    for place, form in ((CARD, "full"), (MAIN_MEMORY, "full"), (MAIN_MEMORY, EIGHT_BIT)):
        look = lambda: places.update(line.what for line in LEDGER.lines(feature.name))  # noqa: E731
        made[place, form] = video(loaded, kept_so(feature, loaded, place, form, every), look)
    whole = made[CARD, "full"]
    assert torch.equal(made[MAIN_MEMORY, "full"], whole)
    away = made[MAIN_MEMORY, EIGHT_BIT] - whole
    assert 0 < away.norm() < 0.05 * whole.norm()
    assert {"keys and values", "keys and values in main memory"} <= places
