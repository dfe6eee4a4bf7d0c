"""engine/lora/keys.py: every style of names ends at the same layers, and what does not fit is said aloud."""

import json

import pytest
import torch

from longreel.engine.lora.keys import convert, stated_alpha

RANK = 2
WAN = {
    name: torch.Size((6, 4))
    for name in (
        *(
            f"blocks.{n}.{part}"
            for n in range(2)
            for part in (
                "self_attn.q",
                "self_attn.k",
                "self_attn.v",
                "self_attn.o",
                "cross_attn.q",
                "cross_attn.k",
                "cross_attn.v",
                "cross_attn.o",
                "cross_attn.k_img",
                "cross_attn.v_img",
                "ffn.0",
                "ffn.2",
            )
        ),
        "time_embedding.0",
        "time_embedding.2",
        "time_projection.1",
        "text_embedding.0",
        "text_embedding.2",
        "head.head",
        "img_emb.proj.1",
        "img_emb.proj.3",
    )
}
COGVIDEOX = {
    name: torch.Size((6, 4))
    for name in (
        *(
            f"blocks.{n}.{part}"
            for n in range(2)
            for part in ("q", "k", "v", "attn_out", "ff_proj", "ff_out", "norm1.linear", "norm2.linear")
        ),
        "time_embedding_linear_1",
        "time_embedding_linear_2",
        "ofs_embedding_linear_1",
        "proj_out",
        "norm_out.linear",
        "patch_embed.proj",
        "patch_embed.text_proj",
    )
}
LAYERS = {"Wan": WAN, "CogVideoX": COGVIDEOX}
OF_DIFFUSERS = {
    "Wan": {
        "blocks.1.attn1.to_q": "blocks.1.self_attn.q",
        "blocks.1.attn1.to_k": "blocks.1.self_attn.k",
        "blocks.1.attn1.to_v": "blocks.1.self_attn.v",
        "blocks.1.attn1.to_out.0": "blocks.1.self_attn.o",
        "blocks.0.attn2.to_q": "blocks.0.cross_attn.q",
        "blocks.0.attn2.to_out.0": "blocks.0.cross_attn.o",
        "blocks.0.attn2.add_k_proj": "blocks.0.cross_attn.k_img",
        "blocks.0.attn2.add_v_proj": "blocks.0.cross_attn.v_img",
        "blocks.1.ffn.net.0.proj": "blocks.1.ffn.0",
        "blocks.1.ffn.net.2": "blocks.1.ffn.2",
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
        "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
        "proj_out": "head.head",
    },
    "CogVideoX": {
        "transformer_blocks.1.attn1.to_q": "blocks.1.q",
        "transformer_blocks.1.attn1.to_k": "blocks.1.k",
        "transformer_blocks.1.attn1.to_v": "blocks.1.v",
        "transformer_blocks.1.attn1.to_out.0": "blocks.1.attn_out",
        "transformer_blocks.0.ff.net.0.proj": "blocks.0.ff_proj",
        "transformer_blocks.0.ff.net.2": "blocks.0.ff_out",
        "transformer_blocks.0.norm1.linear": "blocks.0.norm1.linear",
        "transformer_blocks.0.norm2.linear": "blocks.0.norm2.linear",
        "time_embedding.linear_1": "time_embedding_linear_1",
        "time_embedding.linear_2": "time_embedding_linear_2",
        "ofs_embedding.linear_1": "ofs_embedding_linear_1",
        "proj_out": "proj_out",
        "norm_out.linear": "norm_out.linear",
        "patch_embed.text_proj": "patch_embed.text_proj",
    },
}
PAIRS = [(family, theirs, ours) for family, names in OF_DIFFUSERS.items() for theirs, ours in names.items()]


def lora(layer: str, down: str = ".lora_A.weight", up: str = ".lora_B.weight", inputs=4, outputs=6) -> dict:
    return {layer + down: torch.ones(RANK, inputs), layer + up: torch.ones(outputs, RANK)}


def converted(weights: dict, family: str = "Wan", **options):
    return convert(weights, family, LAYERS[family], **options)


def places(layer: str) -> set[str]:
    return {f"diffusion_model.{layer}.lora_down.weight", f"diffusion_model.{layer}.lora_up.weight"}


@pytest.mark.parametrize("family, theirs, ours", PAIRS)
@pytest.mark.parametrize(
    "prefix",
    ["transformer.", "base_model.model.", "pipe.dit.", "", "diffusion_model.", "base_model.model.transformer."],
)
def test_diffusers_names_find_their_layer_under_every_prefix(family, theirs, ours, prefix):
    result = converted(lora(prefix + theirs), family)
    assert set(result.weights) == places(ours) and result.layers == (ours,)


@pytest.mark.parametrize("family", list(LAYERS))
@pytest.mark.parametrize("prefix", ["transformer.", "base_model.model.", "pipe.dit.", "", "model.diffusion_model."])
def test_the_familys_own_names_find_their_layer_under_every_prefix(family, prefix):
    for layer in LAYERS[family]:
        assert set(converted(lora(prefix + layer), family).weights) == places(layer)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_unet__", "lora_transformer_", "lycoris_"])
@pytest.mark.parametrize(
    "family, name, ours",
    [
        ("Wan", "blocks_1_self_attn_q", "blocks.1.self_attn.q"),
        ("Wan", "blocks_1_ffn_0", "blocks.1.ffn.0"),
        ("Wan", "blocks_0_attn2_to_out_0", "blocks.0.cross_attn.o"),
        ("Wan", "blocks_0_ffn_net_0_proj", "blocks.0.ffn.0"),
        ("CogVideoX", "blocks_1_ff_proj", "blocks.1.ff_proj"),
        ("CogVideoX", "transformer_blocks_1_attn1_to_k", "blocks.1.k"),
        ("CogVideoX", "transformer_blocks_1_attn1_to_out_0", "blocks.1.attn_out"),
    ],
)
def test_underscored_names_find_their_layer(prefix, family, name, ours):
    assert set(converted(lora(prefix + name), family).weights) == places(ours)


@pytest.mark.parametrize(
    "down, up",
    [
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora_down.weight", ".lora_up.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        (".lora_A", ".lora_B"),
    ],
)
def test_every_name_of_the_two_halves_is_read(down, up):
    assert set(converted(lora("blocks.0.ffn.2", down, up)).weights) == places("blocks.0.ffn.2")


def test_what_comfyui_reads_as_it_is_stays_as_it_is():
    weights = lora("transformer.single.0.linear")
    result = convert(weights, "HunyuanVideo", {"single.0.linear": torch.Size((6, 4))}, {"transformer.single.0.linear"})
    assert set(result.weights) == {
        "transformer.single.0.linear.lora_down.weight",
        "transformer.single.0.linear.lora_up.weight",
    }


def test_a_file_that_fits_nowhere_is_refused_with_counts_and_names():
    with pytest.raises(
        ValueError,
        match=r"none of the 2 tensors fits one of the 32 layers of this Wan model; the file has "
        r"double_blocks.0.img_mod.lora_A.weight.*layers like blocks.0.self_attn.q",
    ):
        converted(lora("double_blocks.0.img_mod"))
    with pytest.raises(ValueError, match="none of the 0 tensors"):
        converted({})


def test_a_file_that_fits_in_part_is_refused_unless_allowed():
    weights = {**lora("blocks.0.self_attn.q"), **lora("blocks.7.self_attn.q")}
    with pytest.raises(ValueError, match="2 of 4 tensors fit this Wan model and 2 do not: blocks.7.self_attn.q.lora_A"):
        converted(weights)
    result = converted(weights, allow_partial=True)
    assert result.layers == ("blocks.0.self_attn.q",) and len(result.left_out) == 2
    assert "2 tensors left out, first blocks.7" in result.summary()


def test_a_lora_of_another_size_is_refused():
    with pytest.raises(ValueError, match="has 5 inputs and the model's blocks.0.ffn.0 has 4"):
        converted(lora("blocks.0.ffn.0", inputs=5))
    with pytest.raises(ValueError, match="has 9 outputs and the model's blocks.0.ffn.0 has 6"):
        converted(lora("blocks.0.ffn.0", outputs=9))


def test_a_half_without_the_other_is_refused():
    weights = {**lora("blocks.0.ffn.0"), **lora("blocks.1.ffn.0")}
    del weights["blocks.1.ffn.0.lora_B.weight"]
    with pytest.raises(ValueError, match=r"1 of 2 layers lack lora_up \(lora_B\), first blocks.1.ffn.0"):
        converted(weights)


def test_two_tensors_for_one_place_are_refused():
    with pytest.raises(ValueError, match="are tensors for the same place"):
        converted({**lora("blocks.0.ffn.0"), **lora("transformer.blocks.0.ffn.0")})


def test_a_stated_alpha_is_written_beside_every_lora_that_has_none():
    weights = lora("blocks.0.ffn.0")
    silent, stated = converted(weights), converted(weights, alpha=8.0)
    assert not any(key.endswith(".alpha") for key in silent.weights)
    assert (
        stated.weights["diffusion_model.blocks.0.ffn.0.alpha"].item() == 8.0
        and "alpha 8 for rank 2" in stated.summary()
    )


def test_alpha_tensors_of_the_file_count_before_a_stated_alpha():
    result = converted({**lora("blocks.0.ffn.0"), "blocks.0.ffn.0.alpha": torch.tensor(3.0)}, alpha=8.0)
    assert result.weights["diffusion_model.blocks.0.ffn.0.alpha"].item() == 3.0


def test_alpha_is_read_from_diffusers_metadata_and_from_pefts_config(tmp_path):
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 16})}
    assert stated_alpha(metadata, None) == 16.0
    assert stated_alpha({}, tmp_path) is None and stated_alpha(None, None) is None
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 32}))
    assert stated_alpha(None, tmp_path) == 32.0


def test_a_damaged_config_and_alphas_by_layer_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="1 characters that are no JSON"):
        stated_alpha(None, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 1, "alpha_pattern": {"q": 2}}))
    with pytest.raises(ValueError, match="1 alphas for layers of their own"):
        stated_alpha(None, tmp_path)
