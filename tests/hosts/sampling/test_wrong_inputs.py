"""What belongs to another model, or to another step, is refused by name before the network is evaluated once."""

import pytest
import torch

import comfy.patcher_extension as extension

from longreel.hosts.families import FAMILIES, family_of
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling import joint, planning, refine, rollout, whole
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.rollout_cases import sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.tiny_models import MODELS

MODES = ("joint", "rollout", "whole", "refine", "latent blend")


class Evaluated(Exception):
    """The network was asked."""


def watched(model):
    """A clone whose network must not be reached."""

    def evaluated(executor, *args, **kwargs):
        raise Evaluated

    model = model.clone()
    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "watched", evaluated)
    return model


def sample(mode: str, model, timeline, latent: dict, conds, add_noise: bool = True, sigmas=None, low=None):
    """Sample with what was given, which need not belong together."""
    settings = sampling_of(
        conds, sigmas_of(model) if sigmas is None else sigmas, sampler_for(model), add_noise=add_noise
    )
    with torch.inference_mode():
        if mode == "joint":
            return joint.sample_timeline(model, timeline, latent, settings, blend="triangle")
        if mode == "rollout":
            return rollout.sample_rollout(model, timeline, latent, settings, low_noise_model=low)[0]
        if mode == "whole":
            return whole.sample_ttt(model, timeline, latent, settings)
        if mode == "refine":
            full = {**latent, "samples": latent["samples"] + 0.1}
            return refine.refine(model, full, settings, strength=0.5, timeline=timeline)
        attached = latent_blend.attach(model, timeline, "triangle")
        return tiny_sampling.sample(attached, *conds, latent["samples"])


def encode(loaded, timeline):
    with torch.inference_mode():
        return conditioning.encode_timeline(loaded.clip, timeline)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("of, given", [("wan21", "ltxv"), ("wan21", "wan22_5b"), ("cogvideox10", "wan21")])
def test_a_plan_of_another_model_is_refused_with_both_names(tiny, mode: str, of: str, given: str):
    """Also where its latent has the right number of channels: those of Wan and of CogVideoX are both 16."""
    planned_for, model = tiny(of), watched(tiny(given).model)
    timeline = story(planned_for.model, overlap=1)
    families = [family_of(loaded.model).facts(loaded.model.model).family for loaded in (planned_for, tiny(given))]
    with pytest.raises(ValueError, match=rf"planned for {families[0]} \(.*and the model is {families[1]} \("):
        sample(mode, model, timeline, planning.empty_latent(timeline), encode(tiny(given), timeline))


def test_a_second_expert_of_another_family_is_refused(tiny):
    loaded = tiny("wan22_14b_high")
    timeline = story(loaded.model)
    latent, conds = planning.empty_latent(timeline), encode(loaded, timeline)
    with pytest.raises(ValueError, match=r"planned for Wan \(.*and the model is HunyuanVideo"):
        sample("rollout", watched(loaded.model), timeline, latent, conds, low=tiny("hunyuan_video").model)
    both = sample("rollout", loaded.model, timeline, latent, conds, low=tiny("wan22_14b_low").model)
    assert both["samples"].isfinite().all()


@pytest.mark.parametrize("mode", MODES[:4])
def test_a_latent_of_other_channels_or_axes_is_refused(tiny, mode: str):
    loaded = tiny("wan21")
    timeline = story(loaded.model, overlap=1)
    right = planning.empty_latent(timeline)["samples"]
    conds = encode(loaded, timeline)
    for samples, said in (
        (torch.ones(1, 48, *right.shape[2:]), "the latent has 48 channels and Wan takes 16"),
        (torch.ones(1, 16, 3, *right.shape[2:]), "the latent has 6 axes and a video has 5"),
    ):
        with pytest.raises(ValueError, match=said):
            sample(mode, watched(loaded.model), timeline, {"samples": samples}, conds)


@pytest.mark.parametrize("mode", ["joint", "rollout", "whole"])
def test_a_latent_that_another_node_made_longer_is_refused(tiny, mode: str):
    loaded = tiny("wan21")
    timeline = story(loaded.model, overlap=1)
    latent = planning.empty_latent(timeline)["samples"]
    frames = timeline.latent_frames
    longer = {"samples": torch.cat([latent, latent[:, :, :1]], dim=2)}
    with pytest.raises(ValueError, match=f"the latent has {frames + 1} frames and the timeline {frames}"):
        sample(mode, watched(loaded.model), timeline, longer, encode(loaded, timeline))


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_a_latent_that_was_made_larger_is_sampled_in_its_size(tiny, mode: str):
    """Upscaling between two samplers is what people do; a plan is about time."""
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    latent = planning.empty_latent(timeline)["samples"]
    larger = {"samples": torch.nn.functional.interpolate(latent + 0.1, (latent.shape[2], 10, 12))}
    out = sample(mode, loaded.model, timeline, larger, encode(loaded, timeline))["samples"]
    assert out.shape == larger["samples"].shape and out.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_text_of_another_encoder_is_refused_with_both_widths(tiny, mode: str):
    loaded = tiny("wan21")
    timeline = story(loaded.model, overlap=1)
    positive, negative = encode(loaded, timeline)
    wide = [[torch.cat([text, text], dim=-1), options] for text, options in negative]
    width = positive[0][0].shape[-1]
    said = f"negative conditioning is text of {2 * width} channels and this Wan 2.1/2.2 model reads {width}"
    with pytest.raises(ValueError, match=said):
        sample(mode, watched(loaded.model), timeline, planning.empty_latent(timeline), (positive, wide))


@pytest.mark.parametrize("mode", MODES[:4])
def test_a_pictures_area_in_percentages_is_refused(tiny, mode: str):
    """Core looks for time in it, and finds none: tuple index out of range."""
    loaded = tiny("wan21")
    timeline = story(loaded.model, overlap=1)
    positive, negative = encode(loaded, timeline)
    areas = [[text, {**options, "area": ("percentage", 0.5, 0.5, 0.0, 0.0)}] for text, options in positive]
    with pytest.raises(ValueError, match="an area of the conditioning is 4 parts of a picture, and a video's are 6"):
        sample(mode, watched(loaded.model), timeline, planning.empty_latent(timeline), (areas, negative))


@pytest.mark.parametrize("name", MODELS)
def test_every_family_says_how_wide_its_text_is(tiny, name: str):
    loaded = tiny(name)
    family = family_of(loaded.model)
    assert family in FAMILIES
    text = tiny_sampling.encode(loaded.clip, "a red circle")[0][0]
    assert family.text_width(loaded.model.model.diffusion_model) == text.shape[-1]


@pytest.mark.parametrize("mode", ["joint", "rollout", "whole"])
def test_a_noise_mask_beside_a_latent_that_comes_noisy_is_refused(tiny, mode: str):
    """Core would take the noisy latent for what the mask is to keep, and keep the noise."""
    loaded = tiny("wan21")
    timeline = story(loaded.model, transitions=("continue",), frames=5, segment=9)
    conds, sigmas = encode(loaded, timeline), sigmas_of(loaded.model, 4)
    latent = planning.empty_latent(timeline)
    mask = torch.ones(1, 1, *latent["samples"].shape[2:])
    everything = {**latent, "samples": latent["samples"] + 0.3, "noise_mask": mask.clone()}
    mask[:, :, :2] = 0
    half = sample(mode, loaded.model, timeline, {**everything, "noise_mask": mask}, conds, sigmas=sigmas[:3])
    with pytest.raises(ValueError, match="add_noise is off, so the latent is taken as noisy, and its noise mask"):
        sample(mode, watched(loaded.model), timeline, half, conds, add_noise=False, sigmas=sigmas[2:])
    whole_mask = {**half, "noise_mask": everything["noise_mask"]}  # one that keeps nothing is no contradiction
    out = sample(mode, loaded.model, timeline, whole_mask, conds, add_noise=False, sigmas=sigmas[2:])
    assert out["samples"].isfinite().all()
