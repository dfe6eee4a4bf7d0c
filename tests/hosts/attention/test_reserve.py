"""Before ComfyUI loads a model: what it is asked to leave free, what cannot fit, and the settings that then do."""

import logging
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

import comfy.patcher_extension

from longreel.engine.plan.card_memory import Card, CoreNeeds
from longreel.engine.plan.needs import AUTO, CARD, MAIN_MEMORY, Keep, Need
from longreel.hosts import family_of
from longreel.hosts.attention import card, patching, reserve
from longreel.hosts.attention.attention_size import attention_size
from longreel.hosts.attention.feature import Bystander
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

MIB = 2**20


class Keeper(Watcher):
    """A feature that says what it needs, and hears where it is to keep it."""

    def __init__(self, kept: int, reading: int = 0, place: str = AUTO):
        super().__init__(name="Keeper")
        self.kept, self.reading, self.place, self.told = kept, reading, place, None

    def start(self, start):
        self.told = dict(start.places)
        return super().start(start)

    def need(self, size):
        return Need(self.name, self.kept, self.reading, 0, Keep(self.place))


class Asked:
    """The innermost PREPARE_SAMPLING wrapper: the shapes that core's estimate is made of."""

    def __init__(self, model):
        self.shapes = []
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, "asked", self)

    def __call__(self, executor, patcher, noise_shape, conds, *args, **kwargs):
        self.shapes.append(tuple(noise_shape))
        return executor(patcher, noise_shape, conds, *args, **kwargs)


def asked(loaded, timeline, feature=None, feature_first=True) -> tuple[int, ...]:
    """The shape of the one time that core is asked for memory."""
    model = loaded.model
    if feature and feature_first:
        model = patching.attach(model, feature)
    model = latent_blend.attach(model, timeline, "triangle")
    if feature and not feature_first:
        model = patching.attach(model, feature)
    seen = Asked(model)
    tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1)
    (shape,) = seen.shapes
    return shape


@pytest.mark.parametrize("feature_first", [True, False])
def test_what_a_feature_needs_on_the_card_is_asked_for_beside_one_window(tiny, every_tiny, feature_first):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    window = asked(loaded, timeline)
    assert window[2] <= timeline.segment_frames + 1
    assert asked(loaded, timeline, Watcher(), feature_first) == window
    frame = int(loaded.model.memory_required([*window[:2], 1, *window[3:]]))
    keeper = Keeper(kept=5 * frame, reading=2 * frame - 2)
    assert asked(loaded, timeline, keeper, feature_first)[2] == window[2] + 7
    assert asked(loaded, timeline, keeper, feature_first)[3:] == window[3:]


def card_with(loaded, timeline, card_bytes: int, main_memory: int = 0) -> Card:
    """A card of its own memory that has so many bytes beside the least that the network needs."""
    core = core_of(loaded, timeline)
    return Card("cuda:0", core.whole + card_bytes, core.least + card_bytes, main_memory)


def core_of(loaded, timeline):
    shape = (*empty(timeline).shape[:2], timeline.segment_frames + 1, *empty(timeline).shape[3:])
    return card.core_needs(loaded.model, shape, 2, empty(timeline).numel())


@pytest.fixture
def run_on(tiny, monkeypatch):
    """Sample a feature's model on a card, and return how often core was asked for memory."""
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)

    def run(features, there: Card, **sampling) -> int:
        monkeypatch.setattr(card, "card_of", lambda model: there)
        model = loaded.model
        for feature in features:
            model = patching.attach(model, feature)
        model = latent_blend.attach(model, timeline, "triangle")
        seen = Asked(model)
        try:
            tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1, **sampling)
        finally:
            run.asked = seen.shapes
        return len(seen.shapes)

    run.loaded, run.timeline = loaded, timeline
    return run


def test_a_run_that_cannot_fit_is_refused_before_the_model_is_loaded(run_on):
    there = card_with(run_on.loaded, run_on.timeline, 9 * MIB)
    with pytest.raises(ValueError, match=r"^Keeper needs .* are free on cuda:0; use ") as refused:
        run_on([Keeper(10 * MIB)], there)
    assert not run_on.asked
    assert "segment_frames" in str(refused.value) or "without Keeper" in str(refused.value)
    assert run_on([Keeper(10 * MIB)], replace(there, free=there.free + MIB)) == 1


def test_features_hear_where_they_keep_before_they_start(run_on):
    """Beside all weights, else in main memory; where the user says so, there."""
    core = core_of(run_on.loaded, run_on.timeline)
    room = Card("cuda:0", 0, core.whole + 10 * MIB, 100 * MIB)
    for place, there, expected in (
        (AUTO, room, CARD),
        (AUTO, replace(room, free=room.free - 1), MAIN_MEMORY),
        (MAIN_MEMORY, room, MAIN_MEMORY),
        (CARD, room, CARD),
    ):
        keeper = Keeper(10 * MIB, place=place)
        run_on([keeper], there)
        assert keeper.told == {"Keeper": expected}


def test_one_line_of_the_log_says_what_lies_where(run_on, caplog):
    there = Card("cuda:0", 0, core_of(run_on.loaded, run_on.timeline).whole + 5 * MIB, 100 * MIB)
    with caplog.at_level(logging.INFO):
        run_on([Keeper(10 * MIB, reading=MIB)], there)
    (line,) = [record.getMessage() for record in caplog.records if "Longreel: memory" in record.getMessage()]
    assert "Keeper 1.0 MiB (10.0 MiB kept in main memory)" in line and "window" in line and "weights" in line


def test_a_window_alone_that_cannot_fit_is_refused_with_a_shorter_one_that_does(run_on):
    """No feature is on the model: Longreel Latent Blend asks."""
    there = card_with(run_on.loaded, run_on.timeline, 0)
    assert run_on([], there) == 1
    with pytest.raises(ValueError, match="this run needs .* are free on cuda:0"):
        run_on([], replace(there, free=there.free - 1))
    assert not run_on.asked


@dataclass(frozen=True)
class Layers:
    """A feature as the pack's are: a dataclass with layers, frames and a way to keep; it keeps and does nothing."""

    layers: frozenset[int]
    frames: int = 8
    keep: Keep = field(default_factory=Keep)
    name: ClassVar[str] = "Layers"
    excludes: ClassVar[dict[str, str]] = {}

    def start(self, start):
        return Bystander()

    def need(self, size):
        tokens = self.frames * 1000 // self.keep.every_frames
        return Need(self.name, len(self.layers) * size.bytes_of(tokens, self.keep.form), 0, 0, self.keep)


def memory_of(loaded, timeline, feature, there: Card, monkeypatch) -> reserve.RunMemory:
    """What a run of both prompts is planned with."""
    monkeypatch.setattr(card, "card_of", lambda model: there)
    window = (*empty(timeline).shape[:2], timeline.segment_frames + 1, *empty(timeline).shape[3:])
    family = family_of(loaded.model)
    size = attention_size(
        family, loaded.model.model.diffusion_model, window, rows=2, text_tokens=family.TEXT_TOKENS, itemsize=4
    )
    return reserve.RunMemory(
        loaded.model,
        [feature],
        size=size,
        window=window,
        prompts=2,
        latent_numbers=empty(timeline).numel(),
        shorter=lambda frames: f"windows of {frames}",
    )


def test_every_setting_that_is_named_fits_and_is_the_least_change_of_its_kind(run_on, monkeypatch):
    """From a card that is short of little to one that is short of nearly all."""
    loaded, timeline, feature = run_on.loaded, run_on.timeline, Layers(frozenset(range(4)), keep=Keep(CARD))
    whole = 4 * 2 * 2 * 8000 * 64 * 4
    said = {}
    for share in (0.99, 0.6, 0.3, 0.2, 0.02):
        for main_memory in (0, 2 * whole):
            there = card_with(loaded, timeline, int(whole * share), main_memory)
            run = memory_of(loaded, timeline, feature, there, monkeypatch)
            remedies = run.remedies()
            assert not run.plan.fits and 1 <= len(remedies) <= 3
            assert all(run.plan_of(remedy.features, remedy.frames).fits for remedy in remedies)
            said[share, bool(main_memory)] = [remedy.words for remedy in remedies]
    of_main = "kept_in main memory in Layers"
    assert said[0.99, True] == [of_main, "kept_as 8-bit in Layers", "keep_every 2 in Layers"]
    assert said[0.6, False] == ["kept_as 8-bit in Layers", "keep_every 2 in Layers", "keep_every 4 in Layers"]
    assert said[0.3, False] == ["keep_every 4 in Layers", "layers 3 in Layers", "frames 2 in Layers"]
    assert said[0.2, False] == ["frames 1 in Layers", "the model without Layers"]
    assert said[0.02, True] == [of_main, "kept_in main memory and kept_as 8-bit in Layers", "the model without Layers"]
    assert said[0.02, False] == ["the model without Layers"]


def test_settings_that_a_refusal_names_run(run_on, monkeypatch):
    feature, whole = Layers(frozenset(range(4)), keep=Keep(CARD)), 4 * 2 * 2 * 8000 * 64 * 4
    there = card_with(run_on.loaded, run_on.timeline, int(whole * 0.3))
    remedies = memory_of(run_on.loaded, run_on.timeline, feature, there, monkeypatch).remedies()
    with pytest.raises(ValueError, match=", or ".join([", ".join(r.words for r in remedies[:2]), remedies[2].words])):
        run_on([feature], there)
    assert [run_on(remedy.features, there) for remedy in remedies] == [1, 1, 1]


def test_a_window_that_is_too_long_has_a_length_that_fits(run_on, monkeypatch):
    """The network's own window grows with its frames; half of it fits."""
    loaded, timeline = run_on.loaded, run_on.timeline
    monkeypatch.setattr(card, "core_needs", lambda *args: CoreNeeds(0, 0, args[1][2] * MIB, args[1][2] * MIB))
    run = memory_of(loaded, timeline, Watcher(), Card("cuda:0", 0, 4 * MIB + 5, 0), monkeypatch)
    assert [remedy.words for remedy in run.remedies()] == ["windows of 4"]
