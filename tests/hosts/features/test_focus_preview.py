"""hosts/features/focus_preview.py: the maps are those of explicit softmax on every family, and they mean something: on
the demo model the words of a shape are attended to where the shape is."""

import pytest
import torch

import comfy.samplers

from longreel.demo.detector import read_clip
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import block_count, demo_model, facts_of
from longreel.hosts.attention import patching
from longreel.hosts.families.sites import SELF
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.focus_preview import focus_maps
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.features.explicit_maps import explicit_map, normalised, text_weights
from tests.tiny_models import LoadedTiny

PROMPTS = ("a red cat runs", "the cat sleeps")


def story(model, prompts=PROMPTS):
    """Four latent frames to a shot, two shots blended: segments that overlap, one of them between the prompts."""
    facts = facts_of(model)
    seconds = facts.temporal_stride / 4
    shots = tuple(Shot(prompt, seconds, transition="blend") for prompt in prompts)
    board = Storyboard(shots=shots, width=64, height=64, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=5, overlap_frames=2, transition_prompts=1)


def noise(timeline, videos=1):
    """[N, C, F, H, W]"""
    facts = timeline.facts
    shape = (
        videos,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def look(loaded, timeline, latent, watcher=None, words=("cat",), percent=0.3, layers=None, seed=0):
    """[N, F, rows, columns]"""
    model = patching.attach(loaded.model, watcher) if watcher else loaded.model
    alpha_space = "CogVideoX" in timeline.facts.family
    sampler = AlphaSpaceSampler("ddim") if alpha_space else comfy.samplers.sampler_object("euler")
    layers = frozenset(range(block_count(loaded.model))) if layers is None else frozenset(layers)
    with torch.inference_mode():
        positive, _ = conditioning.encode_timeline(loaded.clip, timeline)
        return focus_maps(
            model, timeline, positive, {"samples": latent}, sampler, Mask(words, 0.3), layers, percent, seed
        )


def text_calls(watcher: Watcher, segment: int) -> list:
    """The network's own calls; a map's call is another one, with values in a single channel."""
    return [call for call in watcher.calls if call.evaluation.segment == segment and call.v[..., 1:].any()]


def test_maps_are_those_of_explicit_softmax_averaged_where_segments_overlap(tiny, every_tiny):
    """Frames in front of a segment are left out; a token of CogVideoX 1.5 is two latent frames."""
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    watcher = Watcher(wants=lambda kind, block: kind != SELF)
    maps = look(loaded, timeline, noise(timeline), watcher)
    rows, columns = watcher.calls[0].forward.grid[1:]
    total, count = torch.zeros(timeline.latent_frames, rows, columns), torch.zeros(timeline.latent_frames, 1, 1)
    for number, segment in enumerate(timeline.segments):
        calls = text_calls(watcher, number)
        assert len(calls) == block_count(loaded.model)
        found = explicit_map(calls, text_weights(timeline, segment, "cat"))
        grid = calls[0].forward.grid
        found = normalised(found, grid[0]).reshape(grid)
        patch = calls[0].forward.patch_frames
        for frame in range(segment.latent_frames):
            total[segment.start_frame + frame] += found[(frame + (segment.start_frame > 0)) // patch]
            count[segment.start_frame + frame] += 1
    assert maps.shape == (1, timeline.latent_frames, rows, columns) and count.max() > 1
    assert maps.min() >= 0 and maps.max() <= 1
    assert torch.allclose(maps[0], total / count, atol=1e-4)


def test_the_network_sees_every_segment_once(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    watcher = Watcher()
    look(loaded, timeline, noise(timeline), watcher)
    assert [evaluation.segment for evaluation in watcher.evaluations] == list(range(len(timeline.segments)))


@pytest.mark.parametrize("percent", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["wan21", "cogvideox10"])
def test_the_latent_gets_the_noise_of_the_chosen_part_of_the_schedule(tiny, name, percent):
    loaded = tiny(name)
    timeline, watcher = story(loaded.model), Watcher()
    look(loaded, timeline, noise(timeline), watcher, percent=percent)
    sampling = loaded.model.get_model_object("model_sampling")
    expected = min(float(sampling.percent_to_sigma(percent)), float(sampling.sigma_max))
    assert [evaluation.sigma for evaluation in watcher.evaluations] == pytest.approx(
        [expected] * len(timeline.segments), rel=1e-4
    )


@pytest.mark.parametrize(
    "change",
    [
        {"percent": 0.8},
        {"seed": 1},
        {"layers": (0,)},
        {"layers": (1, 2)},
        {"words": ("sleeps",)},
        {"words": ("cat", "sleeps")},
    ],
    ids=lambda change: "-".join(map(str, next(iter(change.items())))),
)
def test_every_setting_changes_the_maps(tiny, change):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("a cat sleeps", "the cat sleeps"))
    latent = noise(timeline)
    assert not torch.equal(look(loaded, timeline, latent), look(loaded, timeline, latent, **change))


def test_a_video_of_one_segment_has_maps(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, PROMPTS[:1])
    assert len(timeline.segments) == 1
    maps = look(loaded, timeline, noise(timeline))
    assert maps.shape[:2] == (1, timeline.latent_frames) and (maps.flatten(2).amax(dim=2) > 0.99).all()


def test_each_video_of_a_batch_has_maps_of_its_own(tiny):
    loaded = tiny("hunyuan_video")
    timeline = story(loaded.model)
    maps = look(loaded, timeline, noise(timeline, videos=2))
    assert maps.shape[:2] == (2, timeline.latent_frames) and not torch.equal(maps[0], maps[1])


def test_a_word_that_is_not_in_the_prompt_is_refused_before_the_network_is_asked(tiny):
    loaded = tiny("wan21")
    timeline, watcher = story(loaded.model), Watcher()
    with pytest.raises(ValueError, match='shot 2: "red" is not among the 3 words of the prompt; use words'):
        look(loaded, timeline, noise(timeline), watcher, words=("red",))
    assert not watcher.evaluations


@pytest.fixture(scope="module")
def demo():
    with torch.inference_mode():
        return LoadedTiny(*demo_model.load_demo_model())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "text", ["a red circle moves right on a white background", "a blue star stays still on a gray background"]
)
def test_on_the_demo_model_a_shapes_word_is_where_the_shape_is(demo, text, seed):
    """On these four clips the map was 0.58 to 1.00 within 12 pixels of the shape's centre, and 0.19 to 0.28 further off
    than 16; noise would give the same on both."""
    board = Storyboard(shots=(Shot(text, 17 / 16),), width=64, height=64, fps=16.0)
    timeline = plan_timeline(board, facts_of(demo.model))
    with torch.inference_mode():
        positive, negative = conditioning.encode_timeline(demo.clip, timeline)
    latent = tiny_sampling.sample(
        demo.model, positive, negative, torch.zeros(1, 16, 5, 8, 8), seed=seed, steps=16, cfg=4.0
    )
    reading = read_clip(tiny_sampling.decode(demo.vae, latent).reshape(-1, 64, 64, 3))
    color, shape = text.split()[1:3]
    assert (reading.color, reading.shape) == (color, shape)
    maps = look(demo, timeline, latent, words=(shape,))[0]  # [5, 4, 4]
    centres = torch.arange(8.0, 64.0, 16.0)  # of tokens, pixels
    frames = [timeline.facts.first_pixel_frame(frame) for frame in range(timeline.latent_frames)]
    x, y = reading.positions[frames].T[..., None, None]  # [5, 1, 1]
    distance = ((centres[None, None, :] - x) ** 2 + (centres[None, :, None] - y) ** 2).sqrt()
    assert maps[distance < 12].mean() > 0.25 + maps[distance >= 16].mean()
