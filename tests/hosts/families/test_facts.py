"""hosts/families: what planning is told of the true sizes of each family, and which networks are refused by name.

The true networks are core's own on the meta device (tests/bench/_true_networks.py).
"""

from types import SimpleNamespace

import pytest
import torch

import comfy.model_base

from longreel.engine.plan.facts import ModelFacts
from longreel.hosts import facts_of
from tests.bench._true_networks import META, TrueNetwork, model_of, recognised
from tests.hosts.rollout_cases import roll, story


def facts_at_true_size(name: str):
    return facts_of(SimpleNamespace(model=model_of(name)))


@pytest.mark.parametrize("size", [(848, 480), (1280, 720), (1920, 1072), (480, 848)])
def test_hunyuan_video_15_takes_the_sizes_of_its_template(size):
    """Core's template is 1280 x 720; 720 is no multiple of 32."""
    facts = facts_at_true_size("HunyuanVideo 1.5")
    facts.check_size(*size)
    assert (facts.family, facts.native_latent_frames, facts.native_fps) == ("HunyuanVideo 1.5", 31, 24.0)
    assert facts.pixel_frames(facts.native_latent_frames) == 121
    assert (facts.latent_channels, facts.temporal_stride, facts.spatial_stride) == (32, 4, 16)


def test_hunyuan_video_is_planned_as_before():
    """In runs on disk these numbers are hashed."""
    assert facts_at_true_size("HunyuanVideo") == ModelFacts(
        family="HunyuanVideo",
        latent_channels=16,
        temporal_stride=4,
        spatial_stride=8,
        size_multiple=16,
        native_latent_frames=33,
        native_fps=24.0,
    )


@pytest.mark.parametrize("name", ["Kandinsky 5 lite", "Kandinsky 5 pro"])
def test_kandinsky_5_takes_the_sizes_of_its_template(name):
    facts = facts_at_true_size(name)
    for size in [(768, 512), (1280, 768), (512, 512)]:
        facts.check_size(*size)
    assert (facts.family, facts.native_latent_frames, facts.native_fps) == ("Kandinsky 5", 31, 24.0)
    assert (facts.latent_channels, facts.temporal_stride, facts.spatial_stride) == (16, 4, 8)


def test_the_picture_model_of_kandinsky_5_is_refused_by_name(tiny):
    model = tiny("kandinsky5").model.model
    pictures = object.__new__(comfy.model_base.Kandinsky5Image)
    pictures.__dict__ = model.__dict__
    with pytest.raises(ValueError, match="Kandinsky5Image makes pictures; load a Kandinsky 5 video model"):
        facts_of(SimpleNamespace(model=pictures))


def cogvideox_of(heads: int, positions: bool):
    """A CogVideoX of so many heads, without weights, as core recognises its file, with or without positions in it."""
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    def module(blocks: int = 1):
        return CogVideoXTransformer3DModel(
            num_attention_heads=heads, num_layers=blocks, use_learned_positional_embeddings=positions, **META
        )

    absent = () if positions else ("pos_embedding",)
    return SimpleNamespace(model=recognised(TrueNetwork(module, absent=absent)))


def test_cogvideox_2b_is_refused_by_name_where_core_makes_it_rotary():
    """Its files have no positions (they are no parameters), and core takes what has none for rotary."""
    model = cogvideox_of(30, positions=False)
    assert model.model.diffusion_model.use_rotary_positional_embeddings
    with pytest.raises(
        ValueError, match="has 30 heads, as CogVideoX-2B has, and ComfyUI loads 2B with rotary positions, .* use Cog"
    ):
        facts_of(model)


def test_positions_that_a_file_has_are_added_as_they_were_trained():
    assert facts_of(cogvideox_of(30, positions=True)).family == "CogVideoX"


def test_a_plan_of_hunyuan_video_is_not_taken_for_15(tiny):
    with pytest.raises(ValueError, match=r"planned for HunyuanVideo \(.*and the model is HunyuanVideo 1.5"):
        roll(tiny("hunyuan_video15"), story(tiny("hunyuan_video").model))
    assert torch.is_tensor(roll(tiny("hunyuan_video15"), story(tiny("hunyuan_video15").model), steps=1))
