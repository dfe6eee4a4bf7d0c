"""hosts/families/clone.py and kandinsky.py: networks that read which frames are given are told of those alone.

What they are told is read at the network. They are HunyuanVideo 1.5 (the super-resolution network too) and Kandinsky 5.
"""

import pytest
import torch

import comfy.sd
import node_helpers

from longreel.engine.plan.anchor import CLEAN, INPAINT
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.families import clone, family_of
from longreel.hosts.memory import short_memory
from longreel.hosts.memory.short_memory import KeysAndValues
from longreel.hosts.sampling.joint import sample_timeline
from longreel.hosts.sampling.refine import refine
from longreel.hosts.sampling.rollout import sample_rollout
from tests import tiny_models, tiny_sampling
from tests.hosts.anchor_cases import empty as video_of
from tests.hosts.anchor_cases import with_anchor
from tests.hosts.memory.test_short_memory import known
from tests.hosts.rollout_cases import roll, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

READERS = ("hunyuan_video15", "kandinsky5")
MASK = {"hunyuan_video15": 64, "kandinsky5": 32}  # channel of the network's input
PLAIN = ("wan21", "wan22_5b", "cogvideox10", "hunyuan_video", "ltxv")


class Shown:
    """What the network itself was given in each forward, [B, C, F, H, W], while the context lasts."""

    def __init__(self, model):
        self.entrance, self.seen = family_of(model).entrance(model.model.diffusion_model), []

    def __enter__(self) -> list[torch.Tensor]:
        self.hook = self.entrance.register_forward_pre_hook(lambda module, args: self.seen.append(args[0].clone()))
        return self.seen

    def __exit__(self, *error) -> None:
        self.hook.remove()


def mask_of(seen: torch.Tensor, name: str) -> torch.Tensor:
    """[B, F], one number for each frame, which all its places have."""
    mask = seen[:, MASK[name]]
    assert torch.equal(mask.amin(dim=(2, 3)), mask.amax(dim=(2, 3)))
    return mask[:, :, 0, 0]


@pytest.mark.parametrize("name", READERS)
def test_frames_that_a_noise_mask_keeps_are_not_shown_as_given(tiny, name):
    """Core alone puts all channels of the mask where the network has one, and it refuses them."""
    loaded = tiny(name)
    video = video_of(loaded)
    latent = {"samples": video, "noise_mask": torch.ones_like(video[:, :1])}
    latent["noise_mask"][:, :, :2] = 0
    conds = [tiny_sampling.encode(loaded.clip, text) for text in ("a fox", "blurry")]
    with pytest.raises(RuntimeError):
        tiny_sampling.sample(loaded.model, *conds, latent)
    with Shown(loaded.model) as seen:
        tiny_sampling.sample(clone.clone(loaded.model), *conds, latent)
    assert not mask_of(seen[-1], name).any()


@pytest.mark.parametrize("name", PLAIN)
def test_other_networks_are_cloned_as_they_are(tiny, name):
    model = tiny(name).model
    assert clone.clone(model).object_patches == model.object_patches


def test_another_nodes_channels_are_left_alone(tiny):
    model = tiny("kandinsky5").model.clone()
    theirs = lambda **given: None  # noqa: E731
    model.add_object_patch("concat_cond", theirs)
    assert clone.clone(model).object_patches["concat_cond"] is theirs


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("shown", ["noised", "clean"])
def test_known_frames_of_a_rollout_are_given_where_they_stand_clean_and_the_network_can_be_told(tiny, name, shown):
    loaded = tiny(name)
    timeline = story(loaded.model)
    with Shown(loaded.model) as seen:
        video = roll(loaded, timeline, known(loaded.model, shown), steps=1)
    assert torch.isfinite(video).all()
    told = mask_of(seen[-1], name)
    assert told[:, 0].eq(1.0 if (name, shown) == ("kandinsky5", "clean") else 0.0).all()
    assert not told[:, 1:].any()
    if (name, shown) != ("kandinsky5", "noised"):  # HunyuanVideo's masks show kept frames clean
        format_in = loaded.model.model.process_latent_in
        clean, x = format_in(video)[:, :, -5], seen[-1]
        assert torch.allclose(x[:, : clean.shape[1], 0], clean.expand(len(x), -1, -1, -1), atol=1e-4)


@pytest.mark.parametrize("name", READERS)
def test_keys_and_values_are_remembered(tiny, name):
    loaded = tiny(name)
    timeline = story(loaded.model)
    model = short_memory.attach(loaded.model, KeysAndValues(2, 1.0, 0.0, frozenset({0, 1})))
    assert not torch.equal(roll(loaded, timeline, model, steps=1), roll(loaded, timeline, steps=1))


@pytest.mark.parametrize(("name", "mode", "given"), [
    ("kandinsky5", CLEAN, 1.0), ("kandinsky5", INPAINT, 0.0), ("hunyuan_video15", CLEAN, 0.0),
    ("hunyuan_video15", INPAINT, 0.0),
])  # fmt: skip
def test_a_clean_anchor_is_given_to_a_network_that_can_be_told(tiny, name, mode, given):
    loaded = tiny(name)
    conds = [tiny_sampling.encode(loaded.clip, text) for text in ("a fox", "blurry")]
    with Shown(loaded.model) as seen:
        tiny_sampling.sample(with_anchor(loaded, 2, mode), *conds, video_of(loaded), steps=1)
    assert mask_of(seen[-1], name)[0].tolist() == [0, 0, given, 0, 0, 0]


@pytest.mark.parametrize("name", READERS)
def test_a_mask_is_honoured_by_a_refinement(tiny, name):
    loaded = tiny(name)
    timeline = timeline_for(loaded.model, transitions=("continue", "continue"))
    latent = {"samples": torch.randn(empty(timeline).shape), "noise_mask": torch.ones(1, 1, *empty(timeline).shape[2:])}
    latent["noise_mask"][:, :, 1:4] = 0
    sampling = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, 2))
    with torch.inference_mode():
        out = refine(loaded.model, latent, sampling, strength=0.5, timeline=timeline)["samples"]
    kept = latent["samples"][:, :, 1:4]
    assert torch.allclose(out[:, :, 1:4], kept, atol=1e-3)
    assert not torch.allclose(out[:, :, 4:], latent["samples"][:, :, 4:], atol=0.1)


def with_picture(entries: list, timeline, channels: int = 32) -> tuple[list, torch.Tensor]:
    """What HunyuanVideo15ImageToVideo adds: a picture in the first latent frame of the timeline, and its mask."""
    picture = torch.zeros(1, channels, *empty(timeline).shape[2:])
    picture[:, :, 0] = torch.randn(1, channels, *picture.shape[3:], generator=torch.Generator().manual_seed(8))
    mask = torch.ones(1, 1, *picture.shape[2:])
    mask[:, :, 0] = 0
    return node_helpers.conditioning_set_values(entries, {"concat_latent_image": picture, "concat_mask": mask}), picture


def clip_of(loaded, conds, latent: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What core alone shows of a single clip, in its first evaluation."""
    latent = {"samples": latent} if mask is None else {"samples": latent, "noise_mask": mask}
    with Shown(loaded.model) as seen:
        tiny_sampling.sample(clone.clone(loaded.model), *conds, latent, steps=1)
    return seen[0]


def test_every_chunk_of_hunyuan_video_15_with_a_picture_is_shown_as_the_clip_that_its_known_frames_begin(tiny):
    """In all channels beside the latent, read at the network."""
    loaded = tiny("hunyuan_video15")
    timeline = story(loaded.model)
    texts = encode(loaded, timeline)
    with Shown(loaded.model) as seen:
        video = roll(loaded, timeline, conds=tuple(with_picture(entries, timeline)[0] for entries in texts), steps=1)
    chunks = plan_chunks(timeline, 1)
    assert len(seen) == len(chunks) > 2
    for chunk, shown in zip(chunks[1:], seen[1:], strict=True):
        window = video[:, :, chunk.start_frame : chunk.end_frame].clone()
        picture, mask = torch.zeros_like(window), torch.ones_like(window[:, :1])
        picture[:, :, : chunk.known_frames], mask[:, :, : chunk.known_frames] = window[:, :, : chunk.known_frames], 0
        values = {"concat_latent_image": picture, "concat_mask": mask}
        conds = [node_helpers.conditioning_set_values(entries, values) for entries in texts]
        assert torch.allclose(shown[:1, 32:], clip_of(loaded, conds, window, mask)[:1, 32:], atol=1e-5)
        assert shown[:, MASK["hunyuan_video15"], 0].eq(1).all()


def test_every_segment_of_hunyuan_video_15_with_a_picture_is_led_by_it(tiny):
    loaded = tiny("hunyuan_video15")
    timeline = story(loaded.model, transitions=("continue", "continue"))
    (positive, picture), (negative, _) = (with_picture(entries, timeline) for entries in encode(loaded, timeline))
    sampling = sampling_of((positive, negative), sigmas_of(loaded.model, 1))
    with Shown(loaded.model) as seen, torch.inference_mode():
        sample_timeline(loaded.model, timeline, {"samples": empty(timeline)}, sampling, blend="triangle")
    assert len(seen) == len(timeline.segments) > 2
    for shown in seen:
        assert torch.allclose(shown[:, 32:64, 0], loaded.model.model.process_latent_in(picture)[:, :, 0], atol=1e-5)
        assert mask_of(shown, "hunyuan_video15")[0].tolist() == [1] + [0] * (shown.shape[2] - 1)


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_text_to_video_with_hunyuan_video_15_is_shown_no_picture_and_misses_none(tiny, caplog, mode):
    """Its weights are those of image-to-video: what is in the conditioning tells."""
    loaded = tiny("hunyuan_video15")
    timeline = story(loaded.model)
    sampling = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, 1))
    with Shown(loaded.model) as seen, torch.inference_mode():
        if mode == "joint":
            sample_timeline(loaded.model, timeline, {"samples": empty(timeline)}, sampling, blend="triangle")
        else:
            model = short_memory.attach(loaded.model, KeysAndValues(2, 1.0, 0.0, frozenset({0})))  # and context passes
            sample_rollout(model, timeline, {"samples": empty(timeline)}, sampling)
    assert not any(shown[:, 32:].any() for shown in seen)
    assert "no picture begins" not in caplog.text


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_a_start_picture_of_hunyuan_video_15_is_shown_at_the_videos_start(tiny, mode):
    """As core shows it to a clip of the same frames; where it was not given, later segments are told so."""
    loaded = tiny("hunyuan_video15")
    timeline = story(loaded.model)
    (positive, picture), (negative, _) = (with_picture(entries, timeline) for entries in encode(loaded, timeline))
    conds = positive, negative
    with Shown(loaded.model) as seen, torch.inference_mode():
        if mode == "rollout":
            roll(loaded, timeline, conds=conds, steps=1)
        else:
            sampling = sampling_of(conds, sigmas_of(loaded.model, 1))
            sample_timeline(loaded.model, timeline, {"samples": empty(timeline)}, sampling, blend="triangle")
    first = seen[0]
    expected = torch.zeros_like(first[:, 32:])
    expected[:, :32, 0] = loaded.model.model.process_latent_in(picture)[:, :, 0]
    expected[:, 32, 0] = 1
    assert torch.allclose(first[:, 32:], expected, atol=1e-5)


@pytest.mark.parametrize("pictures", [1, 3])  # latent frames
@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_a_start_picture_of_kandinsky_5_takes_the_place_of_the_videos_first_frames_alone(tiny, mode, pictures):
    """As the node Kandinsky5ImageToVideo gives it; core puts it into the latent inside the network's forward."""
    loaded = tiny("kandinsky5")
    timeline = story(loaded.model, transitions=("continue", "continue"))
    picture = torch.randn(1, 16, pictures, *empty(timeline).shape[3:], generator=torch.Generator().manual_seed(8))
    mask = torch.ones(1, 1, *empty(timeline).shape[2:])
    mask[:, :, :pictures] = 0
    values = {"time_dim_replace": picture, "concat_mask": mask}
    conds = tuple(node_helpers.conditioning_set_values(entries, values) for entries in encode(loaded, timeline))
    sampling = sampling_of(conds, sigmas_of(loaded.model, 1))
    latent = {"samples": empty(timeline)}
    with Shown(loaded.model) as seen, torch.inference_mode():
        if mode == "joint":
            sample_timeline(loaded.model, timeline, latent, sampling, blend="triangle")
            starts = [max(0, segment.start_frame - 1) for segment in timeline.segments]  # with the lead frame
        else:
            model = short_memory.attach(loaded.model, KeysAndValues(2, 1.0, 0.0, frozenset({0})))
            sample_rollout(model, timeline, latent, sampling)
            starts = [chunk.start_frame for chunk in plan_chunks(timeline, timeline.overlap_frames)]
    windows = [shown for shown in seen if shown.shape[2] > 2]  # two frames are remembered in passes of their own
    assert len(windows) == len(starts) and starts[-1] >= pictures
    given = loaded.model.model.process_latent_in(picture)
    for start, shown in zip(starts, windows, strict=True):
        here = max(0, pictures - start)
        assert torch.allclose(shown[:, :16, :here], given[:, :, start:].expand(len(shown), -1, -1, -1, -1))
        assert mask_of(shown, "kandinsky5")[0].tolist() == [1] * here + [0] * (shown.shape[2] - here)
        assert not any(torch.allclose(other, given[:, :, 0], atol=1e-2) for other in shown[:, :16, here:].unbind(2))


@pytest.fixture(scope="module")
def super_resolution(tiny):
    """The super-resolution network of HunyuanVideo 1.5, through core's loader, which reads begin and end of a step."""
    checkpoint = tiny_models.hunyuan_video15(seed=33, in_channels=98, meanflow=True, meanflow_sum=True)
    model = comfy.sd.load_diffusion_model_state_dict(tiny_models.draw_weights(checkpoint))
    loaded = tiny("hunyuan_video15")
    return loaded._replace(model=model)


def test_the_super_resolution_network_is_hunyuan_video_15(super_resolution):
    assert type(super_resolution.model.model).__name__ == "HunyuanVideo15_SR_Distilled"
    assert facts_of(super_resolution.model).family == "HunyuanVideo 1.5"


def test_the_super_resolution_network_is_shown_its_low_resolution_video_where_it_lies(super_resolution):
    """As the node HunyuanVideo15SuperResolution gives it: 66 channels, of which the low video is 33 to 65."""
    timeline = story(super_resolution.model)
    low = torch.zeros(1, 66, *empty(timeline).shape[2:])
    low[:, 33:65] = torch.arange(1.0, low.shape[2] + 1).reshape(1, 1, -1, 1, 1)
    low[:, 65] = 1
    conds = tuple(
        node_helpers.conditioning_set_values(entries, {"concat_latent_image": low, "noise_augmentation": 0.0})
        for entries in encode(super_resolution, timeline)
    )
    with Shown(super_resolution.model) as seen:
        roll(super_resolution, timeline, conds=conds, steps=1)
    frames, levels = seen[-1].shape[2], seen[-1][:, 65:97].mean(dim=(1, 3, 4))
    assert torch.allclose(levels, 0.75 * torch.arange(low.shape[2] - frames + 1.0, low.shape[2] + 1).expand_as(levels))


def test_a_clean_anchor_on_the_super_resolution_network_is_refused(super_resolution):
    with pytest.raises(ValueError, match="reads the begin and the end of each step"):
        with_anchor(super_resolution)
    assert anchor_frame.anchors_of(with_anchor(super_resolution, mode=INPAINT))


def test_the_model_is_not_held_by_what_is_put_into_it(tiny):
    """Core puts the patch into the model: strong, it would hold the weights until Python looks for circles."""
    model = tiny("kandinsky5").model
    (held,) = clone.clone(model).object_patches[clone.PICTURES].args
    assert held() is model.model and held is not model.model
