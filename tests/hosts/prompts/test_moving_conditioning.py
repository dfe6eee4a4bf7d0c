"""What moves along with the video beside its latent is shown to the network as core shows it to a clip of those frames.

Conditionings are made by core's own nodes for the whole timeline. What the network is shown is read where it begins
(DIFFUSION_MODEL), window by window, and held against a clip that core samples alone, whose conditioning is cut here by
hand. The network itself is evaluated only where a memory reads its attention.
"""

import logging

import pytest
import torch

import comfy.patcher_extension as extension
import comfy.samplers

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import Timeline
from longreel.hosts import families, keys
from longreel.hosts.attention import patching
from longreel.hosts.memory.long_memory import LongMemory
from longreel.hosts.memory.short_memory import KeysAndValues
from longreel.hosts.sampling import joint, rollout
from longreel.hosts.windows.context_pass import CONTEXT_PASS
from tests import tiny_variants, variant_conditioning
from tests.hosts.rollout_cases import sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode
from tests.variant_conditioning import Wired, conditioning_of

MOVING = [name for name in tiny_variants.VARIANTS if name not in ("skyreels_v2", "flow_rvs")]
LEADING = {"animate": 1}  # frames of references in front of the video's
MODEL_CHANNELS = 16
LONG = LongMemory("video", 2, "before", 1.0, frozenset({0}), 0.0, context_levels=1)
SHORT = KeysAndValues(2, 1.0, 0.0, frozenset({0}), context_levels=1)
AXES = {"audio_embed": {5: (1, 1), 4: (3, 4)}, "driving_mask_28ch": (1, 1), "ref_mask_28ch": (1, 1)}
LED_BY_A_PICTURE = ("camera", "fun_control")  # the start picture that their nodes are given
SHAPED = ("vace_frames", "vace_mask", "concat_latent_image", "concat_mask", "camera_conditions", "control_video")


class Shown:
    """A DIFFUSION_MODEL wrapper that keeps what the network is given, and answers with zeros unless it evaluates."""

    def __init__(self, model, evaluates: bool = False):
        self.evaluates = evaluates
        self.calls: list[dict] = []
        self.passes: list[dict] = []  # of them, those that show finished frames
        self.model = model.clone()
        self.model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "shown", self)

    def __call__(self, executor, x, timestep, context, clip_fea=None, time_dim_concat=None, options=None, **kwargs):
        given = (x, timestep, context, clip_fea, time_dim_concat, options), kwargs
        kwargs = {**kwargs, "x": x, "context": context, "clip_fea": clip_fea, "time_dim_concat": time_dim_concat}
        options = options or kwargs.pop("transformer_options", {})
        chunk, role = options.get(keys.SEGMENT_AND_ROLE, (None, None))
        shown = self.passes if role == CONTEXT_PASS else self.calls
        shown.append({"chunk": chunk, "prompts": options["cond_or_uncond"], **kwargs})
        return executor(*given[0], **given[1]) if self.evaluates else torch.zeros_like(x[:, :MODEL_CHANNELS])


def by_hand(options: dict, frames: list[int], total: int, leading: int) -> dict:
    """The values of an entry for these frames of a video of `total`, references in front kept there."""
    cut = {}
    for key, value in options.items():
        parts = value if isinstance(value, list) else [value]
        if key in AXES or key in SHAPED or key in ("pose_video_latent", "face_video_pixels"):
            axis, per = AXES.get(key, (2, 4) if key == "face_video_pixels" else (2, 1))
            if key == "audio_embed":
                axis, per = AXES[key][value.ndim]
            in_front = {"ref_mask_28ch": 1}.get(key, leading if key.startswith(("vace", "concat")) else 0)
            places = [*range(in_front), *(in_front + frame * per + step for frame in frames for step in range(per))]
            places = [place for place in places if place < parts[0].shape[axis]]
            parts = [part.index_select(axis, torch.tensor(places)) for part in parts]
        cut[key] = value if parts[0] is value else parts if isinstance(value, list) else parts[0]
    return cut


def story_of(model, overlap: int = 0) -> Timeline:
    """7 latent frames, 25 pixel frames."""
    return story(model, ("continue", "continue"), frames=3, segment=3, overlap=overlap)


def clip_shown(name: str, conds, frames: list[int], total: int, leading: int = 0, known: int = 0) -> dict:
    """What core shows its network of one clip with the conditioning of these frames, in its first evaluation.

    known: of them are kept by the clip's noise mask.
    """
    shown = Shown(tiny_variants.load(name).model)
    cut = [[[text, by_hand(options, frames, total, leading)] for text, options in prompt] for prompt in conds]
    latent = torch.zeros(1, 16, len(frames) + leading, 8, 8)
    mask = torch.ones_like(latent)
    mask[:, :, leading : leading + known] = 0
    guider = comfy.samplers.CFGGuider(shown.model)
    guider.set_conds(*cut)
    guider.set_cfg(3.0)
    with torch.inference_mode():
        sampler = comfy.samplers.sampler_object("euler")
        sigmas = sigmas_of(shown.model, 1)
        guider.sample(torch.randn(latent.shape), latent, sampler, sigmas, denoise_mask=mask if known else None, seed=1)
    return shown.calls[0]


def assert_same(ours: dict, clip: dict, beside: bool = True) -> None:
    """beside: hold the channels beside the latent, too."""
    assert set(ours) == set(clip)
    assert ours["prompts"] == clip["prompts"]
    assert ours["x"].shape == clip["x"].shape
    assert not beside or torch.equal(ours["x"][:, MODEL_CHANNELS:], clip["x"][:, MODEL_CHANNELS:])
    for key in set(clip) - {"x", "prompts", "chunk"}:
        if isinstance(clip[key], torch.Tensor):
            assert ours[key].shape == clip[key].shape, key
            assert torch.equal(ours[key], clip[key]), key
        else:
            assert ours[key] == clip[key], key


def shots_conds(conds, shot: int):
    return tuple([entry for entry in prompt if entry[1]["longreel_shot"] == shot] for prompt in conds)


@pytest.mark.parametrize("name", MOVING)
def test_a_chunk_is_shown_what_core_shows_a_clip_of_its_frames(name: str):
    loaded = tiny_variants.load(name)
    timeline, shown = story_of(loaded.model), Shown(loaded.model)
    conds = conditioning_of(name, loaded, timeline, encode(loaded, timeline))
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        rollout.sample_rollout(shown.model, timeline, {"samples": empty(timeline)}, settings)
    chunks = plan_chunks(timeline, 0)
    assert len(chunks) == len(shown.calls) == 3
    leading = LEADING.get(name, 0)
    for chunk, ours in zip(chunks, shown.calls, strict=True):
        frames = list(range(chunk.start_frame, chunk.end_frame))
        own = shots_conds(conds, chunk.shot)
        clip = clip_shown(name, own, frames, timeline.latent_frames, leading, chunk.known_frames)
        if name == "s2v" and chunk.number:
            assert ours.pop("reference_motion").shape[2] == chunk.start_frame
        pictures_show_known_frames = chunk.known_frames and name != "scail2"
        assert_same(ours, clip, beside=not pictures_show_known_frames)


@pytest.mark.parametrize(
    "name", [name for name in MOVING if name not in (*LEADING, "camera_22", "humo_17", "fun_control_22", "phantom")]
)
def test_a_segment_is_shown_what_core_shows_a_clip_of_its_frames(name: str):
    loaded = tiny_variants.load(name)
    timeline, shown = story_of(loaded.model, overlap=1), Shown(loaded.model)
    conds = conditioning_of(name, loaded, timeline, encode(loaded, timeline))
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        joint.sample_timeline(shown.model, timeline, {"samples": empty(timeline)}, settings, blend="triangle")
    assert len(timeline.segments) == len(shown.calls) > 2
    for segment, ours in zip(timeline.segments, shown.calls, strict=True):
        frames = list(range(segment.start_frame, segment.end_frame))
        if segment.start_frame:
            frames.insert(0, 0 if name in LED_BY_A_PICTURE else segment.start_frame - 1)
        ((shot, _),) = segment.mix
        clip = clip_shown(name, shots_conds(conds, shot), frames, timeline.latent_frames)
        # HuMo's are those of a black video, whose first two latent frames differ: core's windows cut them, too.
        assert_same(ours, clip, beside=name != "humo")


PASSES = [(name, LONG) for name in ("humo_17", "scail2", "camera")]
PASSES += [(name, SHORT) for name in ("vace", "s2v", "fun_control")]


@pytest.mark.parametrize(("name", "memory"), PASSES, ids=[f"{name}-{memory.name}" for name, memory in PASSES])
def test_a_context_pass_is_shown_what_core_shows_a_clip_of_its_frames(name: str, memory):
    loaded = tiny_variants.load(name)
    timeline, shown = story_of(loaded.model), Shown(loaded.model, evaluates=True)
    conds = conditioning_of(name, loaded, timeline, encode(loaded, timeline))
    model = patching.attach(shown.model, memory)
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        rollout.sample_rollout(model, timeline, {"samples": empty(timeline)}, settings)
    chunks = plan_chunks(timeline, 0)
    assert {ours["chunk"] for ours in shown.passes} <= {1, 2} and shown.passes
    for ours in shown.passes:
        start = chunks[ours["chunk"]].start_frame
        frames = list(range(start))[:2] if memory is LONG else list(range(start))[-2:]
        maker = next(chunk for chunk in chunks if chunk.first_new_frame <= frames[-1] < chunk.end_frame)
        own = shots_conds(conds, maker.shot)
        clip = clip_shown(name, own, frames, timeline.latent_frames)
        if name == "s2v" and frames[0]:
            assert ours.pop("reference_motion").shape[2] == frames[0]
        pictures_show_finished_frames = name in LED_BY_A_PICTURE
        assert_same(ours, clip, beside=not pictures_show_finished_frames)
        if name == "fun_control":
            control = slice(MODEL_CHANNELS, 2 * MODEL_CHANNELS)
            assert torch.equal(ours["x"][:, control], clip["x"][:, control])


def test_every_chunk_of_vace_begins_with_its_reference_picture():
    """It is drawn in front of each chunk as core draws it in front of a clip, and is no part of the video."""
    loaded = tiny_variants.load("vace")
    timeline, shown = story_of(loaded.model), Shown(loaded.model)
    conds = conditioning_of("vace", loaded, timeline, encode(loaded, timeline), reference=True)
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        out, _ = rollout.sample_rollout(shown.model, timeline, {"samples": empty(timeline)}, settings)
    assert out["samples"].shape[2] == timeline.latent_frames
    for chunk, ours in zip(plan_chunks(timeline, 0), shown.calls, strict=True):
        frames = list(range(chunk.start_frame, chunk.end_frame))
        assert ours["x"].shape[2] == len(frames) + 1
        own = shots_conds(conds, chunk.shot)
        assert_same(ours, clip_shown("vace", own, frames, timeline.latent_frames, 1, chunk.known_frames))


def test_animate_is_shown_finished_frames_where_its_node_puts_continue_motion():
    """Behind the reference, in picture and mask; where a take begins there are none."""
    loaded = tiny_variants.load("animate")
    timeline = story(loaded.model, ("continue", "continue", "cut"), frames=4, segment=4, overlap=2)
    shown = Shown(loaded.model)
    prompts = encode(loaded, timeline)
    conds = conditioning_of("animate", loaded, timeline, prompts, face=False)
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        out, _ = rollout.sample_rollout(shown.model, timeline, {"samples": empty(timeline)}, settings)
    mask, picture = slice(MODEL_CHANNELS, MODEL_CHANNELS + 4), slice(MODEL_CHANNELS + 4, None)
    chunks = plan_chunks(timeline, 2)
    assert [chunk.known_frames for chunk in chunks] == [0, 3, 2, 2, 0]
    for chunk, ours in zip(chunks, shown.calls, strict=True):
        frames = list(range(chunk.start_frame, chunk.end_frame))
        clip = clip_shown("animate", shots_conds(conds, chunk.shot), frames, timeline.latent_frames, 1)
        clip["x"], behind = clip["x"].clone(), slice(1, 1 + chunk.known_frames)
        known = out["samples"][:, :, chunk.start_frame : chunk.first_new_frame]
        clip["x"][:, picture, behind] = loaded.model.model.process_latent_in(known)
        clip["x"][:, mask, behind] = 1.0  # for the network it is the other way round
        assert_same(ours, clip)
    wired = Wired(loaded, timeline, prompts, frames=len(frames))
    given = {"continue_motion": wired.video(15)[:5], "character_mask": None}
    node = variant_conditioning.animate(wired, face=False, **given)[0][0][1]["concat_mask"]
    continued = shown.calls[2]["x"][:1, mask]
    assert torch.equal(1 - node[:, :, : 1 + 2], continued[:, :, : 1 + 2]) and continued[:, :, : 1 + 2].all()


def test_sound_to_video_is_told_of_the_finished_frames_in_front_of_each_chunk():
    """As WanSoundImageToVideoExtend tells it of a clip's; across a cut it is told of none."""
    loaded = tiny_variants.load("s2v")
    timeline = story(loaded.model, ("continue", "continue", "cut"), frames=3, segment=3, overlap=0)
    shown = Shown(loaded.model, evaluates=True)
    conds = conditioning_of("s2v", loaded, timeline, encode(loaded, timeline))
    settings = sampling_of(conds, sigmas_of(loaded.model, 1))
    with torch.inference_mode():
        out, _ = rollout.sample_rollout(shown.model, timeline, {"samples": empty(timeline)}, settings)
    chunks = plan_chunks(timeline, 0)
    assert [chunk.take for chunk in chunks] == [0, 0, 0, 1]
    for chunk, ours in zip(chunks, shown.calls, strict=True):
        before = out["samples"][:, :, timeline.take_starts[chunk.take] : chunk.start_frame]
        if not before.shape[2]:
            assert "reference_motion" not in ours
            continue
        told = loaded.model.model.process_latent_in(before)
        assert torch.equal(ours["reference_motion"][:1], told.to(ours["reference_motion"]))


@pytest.mark.parametrize(
    ("mode", "name", "key", "words"),
    [
        ("joint", "s2v", "audio_embed", "audio_embed for 4 latent frames and the video has 7; .* 25 pixel frames"),
        (
            "rollout",
            "humo_17",
            "audio_embed",
            "audio_embed for 4 latent frames and the video has 7; .* 25 pixel frames",
        ),
        ("rollout", "camera", "camera_conditions", "camera_conditions for 4 latent frames and the video has 7"),
        ("joint", "camera", "camera_conditions", "camera_conditions for 4 latent frames and the video has 7"),
        ("rollout", "vace", "vace_frames", "vace_frames of 4 latent frames and the video has 7"),
        ("joint", "animate", "concat_latent_image", "concat_latent_image of 5 latent frames and the video has 7"),
    ],
)
def test_what_ends_before_the_video_is_refused_before_sampling(mode: str, name: str, key: str, words: str):
    loaded = tiny_variants.load(name)
    timeline, shown = story_of(loaded.model, overlap=1), Shown(loaded.model)
    options = {"face": False} if name == "animate" else {}
    wired = Wired(loaded, timeline, encode(loaded, timeline), frames=4)
    short = variant_conditioning.WIRED[name](wired, **options)
    assert key in short[0][0][1]
    settings, latent = sampling_of(short, sigmas_of(loaded.model, 1)), {"samples": empty(timeline)}
    with pytest.raises(ValueError, match=words), torch.inference_mode():
        if mode == "joint":
            joint.sample_timeline(shown.model, timeline, latent, settings, blend="triangle")
        else:
            rollout.sample_rollout(shown.model, timeline, latent, settings)
    assert not shown.calls


def test_a_reference_in_front_is_refused_where_segments_are_sampled_together():
    loaded = tiny_variants.load("vace")
    timeline, shown = story_of(loaded.model, overlap=1), Shown(loaded.model)
    conds = conditioning_of("vace", loaded, timeline, encode(loaded, timeline), reference=True)
    settings, latent = sampling_of(conds, sigmas_of(loaded.model, 1)), {"samples": empty(timeline)}
    with pytest.raises(ValueError, match="a reference picture takes a frame of its own in front.* use mode rollout"):
        joint.sample_timeline(shown.model, timeline, latent, settings, blend="triangle")
    assert not shown.calls


def test_a_class_that_was_never_tested_is_named_in_the_log_once(caplog):
    loaded = tiny_variants.load("flow_rvs")
    families._named.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert families.facts_of(loaded.model).family == "Wan"
    (said,) = [record.getMessage() for record in caplog.records if "WAN21_FlowRVS" in record.getMessage()]
    assert "is not known to Longreel" in said


@pytest.mark.parametrize("name", tiny_variants.VARIANTS)
def test_core_recognises_every_variant(name: str):
    model = tiny_variants.load(name).model.model
    assert type(model).__name__ == tiny_variants.VARIANTS[name].base_class
    assert (type(model) in families.wan.TESTED) == (name != "flow_rvs")
