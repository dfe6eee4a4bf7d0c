"""In joint sampling every segment of an image-to-video network is led by the nearest picture in front of it."""

import logging

import pytest
import torch

from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.families import picture_channels_of
from longreel.hosts.sampling import refine
from longreel.hosts.sampling.joint import sample_attached, sample_timeline
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.image_to_video_cases import CELLS, Watched, filling, loaded, of_node, wired
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for
from tests.tiny_image_to_video import VARIANTS

WITH_CHANNELS = [name for name in VARIANTS if name != "hunyuan_i2v_replace"]
MASK = slice(16, 20)  # of what a Wan network is shown


def start_picture(name: str, timeline) -> dict:
    """What core's node of a variant says of a picture at the start."""
    channels = picture_channels_of(loaded(name).model.model)
    if channels.unknown:
        return of_node(timeline.pixel_frames)
    picture, mask = filling(name, timeline.latent_frames), torch.ones_like(empty(timeline)[:, :1])
    picture[:, -16:, :1], mask[:, :, :1] = torch.randn(1, 16, 1, CELLS, CELLS), 0
    if name == "hunyuan_i2v_concat":  # HunyuanImageToVideo gives one frame, and a mask of all
        picture = picture[:, :, :1]
    return {
        "concat_latent_image": picture,
        **({"concat_mask": mask} if channels.has_mask else {}),
        **({"concat_mask_index": channels.control} if channels.has_mask and channels.control else {}),
    }


def settings(model, conds, steps=1):
    return sampling_of(conds, sigmas_of(model, steps), sampler_for(model), 3.0, 7)


def joint(name: str, timeline, conds, prepare=lambda model: model, latent=None, lead_frame=True) -> Watched:
    """What the segments of a timeline are shown in one step."""
    watched = Watched(prepare(loaded(name).model))
    model = latent_blend.attach(watched.model, timeline, "triangle", 7, lead_frame)
    with torch.inference_mode():
        sample_attached(model, timeline, latent or {"samples": empty(timeline)}, settings(model, conds))
    return watched


def of_core(name: str, timeline, conds, prepare=lambda model: model, latent=None) -> torch.Tensor:
    """What core shows of the whole video as one clip, under the first shot's prompt, [B, channels, F, H, W]."""
    watched = Watched(prepare(loaded(name).model))
    own = tuple([entry for entry in entries if entry[1]["longreel_shot"] == 0] for entries in conds)
    with torch.inference_mode():
        sample_attached(
            watched.model,
            timeline,
            latent or {"samples": empty(timeline)},
            settings(watched.model, own),
            callback=lambda *_: None,
        )
    return watched.shown[0].x


def assert_led(watched: Watched, timeline, whole: torch.Tensor, leads: dict[int, int]) -> None:
    """Each segment is shown what core shows of the same frames; leads: the picture's latent frame in each take."""
    assert len(watched.shown) == len(timeline.segments)
    for segment, shown in zip(timeline.segments, watched.shown, strict=True):
        frames = list(range(segment.start_frame, segment.end_frame))
        if segment.start_frame:
            before = max(timeline.take_start(segment), segment.start_frame - 1)
            frames.insert(0, leads.get(segment.take, before))
        assert torch.equal(shown.x, whole[:, :, frames]), segment


@pytest.mark.parametrize("name", WITH_CHANNELS)
def test_every_segment_of_a_take_is_led_by_its_start_picture(name):
    timeline = timeline_for(loaded(name).model)
    conds = wired(encode(loaded(name), timeline), start_picture(name, timeline))
    watched = joint(name, timeline, conds)
    assert_led(watched, timeline, of_core(name, timeline, conds), {0: 0})
    if picture_channels_of(loaded(name).model.model).unknown:  # in the second take nothing is known
        known = [bool(shown.x[:, MASK, 0].any()) for shown in watched.shown]
        assert known == [segment.take == 0 for segment in timeline.segments] and not all(known)


@pytest.mark.parametrize("mode", [CLEAN, INPAINT])
@pytest.mark.parametrize("blend_first", [False, True])
def test_an_anchor_at_a_shots_start_leads_its_take(mode, blend_first):
    name = "wan22_i2v_high"
    timeline = timeline_for(loaded(name).model)
    border, facts = timeline.shots[2].start_frame, facts_of(loaded(name).model)
    anchor = place_anchor(facts.first_pixel_frame(border) / 16, 16.0, facts, mode, 1.0)
    one = anchor_frame.Anchored(anchor, torch.randn(1, 16, 1, CELLS, CELLS))
    conds = encode(loaded(name), timeline)
    watched = Watched(loaded(name).model)
    nodes = [
        lambda model: anchor_frame.attach(model, [one]),
        lambda model: latent_blend.attach(model, timeline, "triangle", 7),
    ]
    model = watched.model
    for node in reversed(nodes) if blend_first else nodes:
        model = node(model)
    with torch.inference_mode():
        sample_attached(model, timeline, {"samples": empty(timeline)}, settings(model, conds))
    whole = of_core(name, timeline, conds, nodes[0])
    assert whole[:, MASK, border].eq(1).all() and whole[:, MASK].sum() == whole[:, MASK, border].sum()
    assert_led(watched, timeline, whole, {1: border})


def test_a_first_frame_is_called_clean_only_where_a_clean_one_leads():
    name = "hunyuan_i2v_replace"
    timeline = timeline_for(loaded(name).model)
    samples = empty(timeline)
    mask = torch.ones_like(samples[:, :1])
    samples[:, :, :1], mask[:, :, :1] = torch.randn(1, 16, 1, CELLS, CELLS), 0
    conds, latent = wired(encode(loaded(name), timeline), {"guiding_frame_index": 0}), {"samples": samples}
    latent["noise_mask"] = mask
    watched = joint(name, timeline, conds, latent=latent)
    assert_led(watched, timeline, of_core(name, timeline, conds, latent=latent), {0: 0})
    said = [shown.kwargs["args"][6] is not None for shown in watched.shown]
    assert said == [segment.take == 0 for segment in timeline.segments]


def test_an_end_picture_stays_at_the_end_of_the_timeline():
    name = "wan21_flf"
    timeline = timeline_for(loaded(name).model, transitions=("continue", "blend"))
    conds = wired(encode(loaded(name), timeline), of_node(timeline.pixel_frames, end=1))
    watched = joint(name, timeline, conds)
    assert_led(watched, timeline, of_core(name, timeline, conds), {0: 0})
    assert watched.shown[-1].x[:, MASK, -1].mean((0, 2, 3)).tolist() == [0, 0, 0, 1]


def test_without_lead_frames_a_segment_sees_the_pictures_of_its_own_frames():
    name = "wan22_i2v_high"
    timeline = timeline_for(loaded(name).model)
    conds = wired(encode(loaded(name), timeline), start_picture(name, timeline))
    watched, whole = joint(name, timeline, conds, lead_frame=False), of_core(name, timeline, conds)
    for segment, shown in zip(timeline.segments, watched.shown, strict=True):
        assert torch.equal(shown.x, whole[:, :, segment.start_frame : segment.end_frame])


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_refining_leads_chunks_by_the_picture_too(blend):
    name = "wan22_i2v_high"
    timeline = timeline_for(loaded(name).model, transitions=("continue", "continue"))
    conds = wired(encode(loaded(name), timeline), of_node(9))
    watched = Watched(loaded(name).model)
    with torch.inference_mode():
        refine.refine(
            watched.model,
            {"samples": torch.randn_like(empty(timeline))},
            settings(watched.model, conds),
            strength=1.0,
            blend=blend,
            timeline=timeline,
        )
    assert len(watched.shown) > 2
    first = watched.shown[0].x[:, 16:, :1]
    for shown in watched.shown:
        assert torch.equal(shown.x[:, 16:, :1], first) and shown.x[:, MASK, 0].eq(1).all()


def test_text_to_video_is_led_by_the_frame_in_front_whatever_is_wired(tiny):
    model = tiny("wan21").model
    timeline = timeline_for(model)
    plain = encode(tiny("wan21"), timeline)
    one, other = (
        tiny_sampling.sample(latent_blend.attach(model, timeline, "triangle"), *conds, empty(timeline), steps=1)
        for conds in (plain, wired(plain, of_node(timeline.pixel_frames)))
    )
    assert torch.equal(one, other)


def test_a_take_that_begins_without_a_picture_is_named_once(caplog):
    name = "wan22_i2v_high"
    timeline = timeline_for(loaded(name).model)
    conds = wired(encode(loaded(name), timeline), of_node(9))
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        sample_timeline(
            loaded(name).model,
            timeline,
            {"samples": empty(timeline)},
            settings(loaded(name).model, conds, steps=2),
            blend="triangle",
            low_noise_model=loaded("wan22_i2v_low").model,
            low_noise_from=0.95,
        )
    said = [record.message for record in caplog.records if "picture begins" in record.message]
    assert len(said) == 1 and "begins shot 3;" in said[0]
