"""hosts/ttt/samples.py: stories as the student tells them, from fixed noise."""

from dataclasses import replace

import pytest
import torch

from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.samples import StorySampler
from tests.hosts.ttt.test_student import PROMPTS, WINDOWS, hear, student_of
from tests.hosts.ttt_cases import denoise, encode, layers, plan


def sampler(loaded, **more) -> StorySampler:
    student = student_of(loaded, layers(loaded.model))
    side = 64 // student.facts.spatial_stride
    heard = {name: part[0] for name, part in hear(loaded, PROMPTS).items()}
    unconditional = {name: part[0] for name, part in hear(loaded, ["", ""]).items()}
    given = {
        "stories": [heard],
        "unconditional": unconditional,
        "latent_shape": (student.facts.latent_channels, 6, side, side),
        "windows": WINDOWS,
        "steps": 2,
        "cfg": 3.0,
    }
    return StorySampler(student, loaded.vae, **{**given, **more})


@pytest.mark.parametrize("family", ["wan21", "cogvideox10", "hunyuan_video", "ltxv"])
def test_one_step_is_that_of_the_sampler(tiny, family):
    loaded = tiny(family)
    timeline = plan(loaded, shots=2, prompts=PROMPTS)
    windows = tuple((segment.start_frame, segment.end_frame) for segment in timeline.segments)
    ours = replace(sampler(loaded), steps=1, windows=windows)
    ours = replace(
        ours,
        latent_shape=(*ours.latent_shape[:1], timeline.latent_frames, *ours.latent_shape[2:]),
        unconditional={name: part[0] for name, part in hear(loaded, ["blurry", "blurry"]).items()},
    )
    noise = torch.randn(1, *ours.latent_shape, generator=torch.Generator().manual_seed(4))
    model = ttt.attach_timeline(ttt.apply(loaded.model, layers(loaded.model)), timeline)
    theirs = loaded.model.model.process_latent_in(denoise(model, encode(loaded, timeline), noise, cfg=3.0))
    torch.testing.assert_close(ours._latent(ours.stories[0], noise), theirs, atol=5e-3, rtol=2e-3)


def test_pages_are_videos_and_the_same_each_time(tiny):
    ours = sampler(tiny("wan21"))
    first, second = ours(), ours()
    assert len(first) == 1 and first[0].shape == (21, 64, 64, 3) and 0 <= first[0].min() <= first[0].max() <= 1
    assert torch.equal(first[0], second[0])


@pytest.mark.parametrize(
    "changed",
    [{"steps": 3}, {"cfg": 1.0}, {"seed": 1}, {"windows": ((0, 3), (2, 6))}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_number_changes_the_story(tiny, changed):
    ours = sampler(tiny("wan21"))
    assert not torch.equal(ours()[0], replace(ours, **changed)()[0])


def test_what_is_not_said_is_told_the_frame_rate_of_the_story(tiny):
    """Where the unconditional row comes from a clip of another rate."""
    loaded = tiny("ltxv")
    ours = sampler(loaded)
    other = {name: part[0] for name, part in hear(loaded, ["", ""], fps=25.0).items()}
    noise = torch.randn(1, *ours.latent_shape, generator=torch.Generator().manual_seed(4))
    stories = [replace(ours, steps=1, unconditional=heard) for heard in (ours.unconditional, other)]
    same = [story._latent(story.stories[0], noise) for story in stories]
    assert torch.equal(*same)


def test_what_was_learned_since_changes_the_story(tiny):
    ours = sampler(tiny("wan21"))
    before = ours()[0]
    with torch.no_grad():
        for layer in ours.student.layers.values():
            layer.forward_video.add_(1.0)
    assert not torch.equal(before, ours()[0])
