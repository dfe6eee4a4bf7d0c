"""What the plan thinks the network will be shown, against what its attention is shown."""

import pytest

import comfy.patcher_extension

from longreel.engine.plan.needs import AttentionSize
from longreel.engine.storyboard.board import Shot
from longreel.hosts.attention import patching, reserve
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.rollout_cases import roll, story
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for


class Planned:
    """An outermost OUTER_SAMPLE wrapper: the sizes that a run is planned with."""

    def __init__(self, model):
        self.sizes: list[AttentionSize] = []
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "planned", self)

    def __call__(self, executor, noise, *args, **kwargs):
        self.sizes.append(reserve.size_of_run(executor.class_obj, noise.shape))
        return executor(noise, *args, **kwargs)


def check(watcher: Watcher, size: AttentionSize) -> None:
    """Compare with the largest call of each kind."""
    calls = watcher.calls
    assert {(call.kind, call.block) for call in calls} == set(size.sites)
    for kind in {kind for kind, _ in size.sites}:
        of_kind = [call for call in calls if call.kind == kind]
        largest = max(of_kind, key=lambda call: call.k.shape[2])
        rows, heads, tokens, width = largest.k.shape
        assert (rows, heads, width) == (size.rows, size.heads, size.head_width)
        text = 0 if kind == "self" else size.text_tokens
        assert tokens == (text if kind == "cross" else text + size.video_tokens())
        assert 2 * largest.k.nbytes == size.bytes_of(tokens)


@pytest.mark.parametrize("cfg", [3.0, 1.0])
def test_a_segment_is_as_large_as_planned(tiny, every_tiny, cfg):
    loaded, watcher = tiny(every_tiny.name), Watcher()
    timeline = timeline_for(loaded.model)
    model = latent_blend.attach(patching.attach(loaded.model, watcher), timeline, "triangle")
    planned = Planned(model)
    tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1, cfg=cfg)
    (size,) = planned.sizes
    assert size.rows == (1 if cfg == 1 else 2)
    check(watcher, size)


def test_a_chunk_is_planned_as_long_as_the_longest_from_the_first_on(tiny):
    """The first take is shorter than a window."""
    loaded, watcher = tiny("wan21"), Watcher()
    shots = (Shot("short", 0.5), Shot("long", 1.5, transition="cut"))
    timeline = story(loaded.model, shots=shots, segment=4, overlap=2)
    model = patching.attach(loaded.model, watcher)
    planned = Planned(model)
    roll(loaded, timeline, model, steps=1)
    frames = [call.forward.grid[0] for call in watcher.calls]
    assert frames[0] < max(frames)
    assert {size.frames for size in planned.sizes} == {max(frames)} and len(planned.sizes) > 1
    check(watcher, planned.sizes[0])


def test_two_prompts_of_one_shot_are_two_rows(tiny):
    loaded, watcher = tiny("wan21"), Watcher()
    timeline = timeline_for(loaded.model)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(patching.attach(loaded.model, watcher), timeline, "triangle")
    planned = Planned(model)
    tiny_sampling.sample(model, [*positive, *positive], negative, empty(timeline), steps=1)
    assert planned.sizes[0].rows == 3
    assert max(len(call.rows) for call in watcher.calls) == 3
