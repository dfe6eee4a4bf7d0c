"""hosts/anchor/lora.py: a LoRA under a trainer's names is to the bit the LoRA that ComfyUI loads under its own."""

import json
import re
import time

import pytest
import torch
from safetensors.torch import save_file

import comfy.sd

from longreel.hosts import demo_model
from longreel.hosts.anchor.frame import is_trained
from longreel.hosts.anchor.lora import attach, check_lora, read_lora
from tests.tiny_sampling import encode, sample

RANK, ALPHA = 3, 6.0
FAMILIES = ["wan21", "wan22_5b", "cogvideox10", "cogvideox15"]

TO_DIFFUSERS = {
    "wan": (
        (r"self_attn\.([qkv])$", r"attn1.to_\1"),
        (r"cross_attn\.([qkv])$", r"attn2.to_\1"),
        (r"self_attn\.o$", "attn1.to_out.0"),
        (r"cross_attn\.o$", "attn2.to_out.0"),
        (r"ffn\.0$", "ffn.net.0.proj"),
        (r"ffn\.2$", "ffn.net.2"),
    ),
    "cogvideox": (
        (r"^blocks\.", "transformer_blocks."),
        (r"\.([qkv])$", r".attn1.to_\1"),
        (r"attn_out$", "attn1.to_out.0"),
        (r"ff_proj$", "ff.net.0.proj"),
        (r"ff_out$", "ff.net.2"),
    ),
}


def of_diffusers(layer: str, family: str) -> str:
    for pattern, replacement in TO_DIFFUSERS["wan" if family.startswith("wan") else "cogvideox"]:
        layer = re.sub(pattern, replacement, layer)
    return layer


STYLES = {
    "diffusers": lambda layer, family: (
        "transformer." + of_diffusers(layer, family),
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "peft": lambda layer, family: ("base_model.model." + layer, ".lora_A.default.weight", ".lora_B.default.weight"),
    "peft of diffusers": lambda layer, family: (
        "base_model.model." + of_diffusers(layer, family),
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "bare": lambda layer, family: (layer, ".lora_A.weight", ".lora_B.weight"),
    "transformer": lambda layer, family: ("transformer." + layer, ".lora_down.weight", ".lora_up.weight"),
    "diffsynth": lambda layer, family: ("pipe.dit." + layer, ".lora_A.default.weight", ".lora_B.default.weight"),
    "underscored": lambda layer, family: (
        "lora_transformer_" + layer.replace(".", "_"),
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "comfyui": lambda layer, family: ("diffusion_model." + layer, ".lora_down.weight", ".lora_up.weight"),
    "kohya": lambda layer, family: ("lora_unet_" + layer.replace(".", "_"), ".lora_down.weight", ".lora_up.weight"),
}


@pytest.fixture(params=FAMILIES)
def loaded(request, tiny):
    """(name, model, clip, vae), and the layers of its blocks with random LoRAs."""
    found = tiny(request.param)
    generator = torch.Generator().manual_seed(3)
    lora = {}
    for name, value in found.model.model.diffusion_model.state_dict().items():
        if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2 and "norm" not in name:
            lora[name.removesuffix(".weight")] = (
                torch.randn(RANK, value.shape[1], generator=generator) * 0.3,
                torch.randn(value.shape[0], RANK, generator=generator) * 0.3,
            )
    return request.param, found, lora


def named(lora: dict, style: str, family: str, alpha: float | None = None) -> dict[str, torch.Tensor]:
    weights = {}
    for layer, (down, up) in lora.items():
        name, a, b = STYLES[style](layer, family)
        weights |= {name + a: down, name + b: up}
        if alpha is not None:
            weights[f"{name}.alpha"] = torch.tensor(alpha)
    return weights


def output(loaded, model) -> torch.Tensor:
    positive, negative = encode(loaded.clip, "a red circle moves right"), encode(loaded.clip, "")
    channels = model.model.latent_format.latent_channels
    return sample(model, positive, negative, torch.zeros(1, channels, 3, 4, 4), steps=1, seed=4)


def comfyuis_own(loaded, lora: dict, alpha: float | None, strength: float) -> torch.Tensor:
    model, _ = comfy.sd.load_lora_for_models(loaded.model, None, named(lora, "comfyui", "", alpha), strength, 0)
    return output(loaded, model)


@pytest.mark.parametrize("alpha, strength", [(None, 1.0), (ALPHA, 0.7)])
def test_every_style_of_names_gives_what_comfyui_makes_of_its_own(loaded, tmp_path, alpha, strength):
    name, model, lora = loaded
    wanted = comfyuis_own(model, lora, alpha, strength)
    assert not torch.equal(wanted, output(model, model.model))
    for style in STYLES:
        save_file(named(lora, style, name, alpha), tmp_path / "lora.safetensors")
        patched, converted = attach(model.model, read_lora(tmp_path / "lora.safetensors"), strength)
        assert len(converted.layers) == len(lora), style
        assert torch.equal(output(model, patched), wanted), style


def test_an_alpha_in_the_metadata_counts_as_one_in_the_file(loaded, tmp_path):
    name, model, lora = loaded
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": ALPHA, "transformer.r": RANK})}
    save_file(named(lora, "diffusers", name), tmp_path / "lora.safetensors", metadata)
    patched, converted = attach(model.model, read_lora(tmp_path / "lora.safetensors"))
    assert torch.equal(output(model, patched), comfyuis_own(model, lora, ALPHA, 1.0))
    assert "alpha 6 for rank 3" in converted.summary()


def test_a_given_alpha_counts_before_the_files(tiny, tmp_path):
    loaded = tiny("wan21")
    layer = torch.ones(RANK, 64), torch.ones(64, RANK)
    save_file(named({"blocks.0.self_attn.q": layer}, "bare", "wan21", 1.0), tmp_path / "lora.safetensors")
    file = read_lora(tmp_path / "lora.safetensors")
    patched, _ = attach(loaded.model, file, alpha=ALPHA)
    assert torch.equal(output(loaded, patched), comfyuis_own(loaded, {"blocks.0.self_attn.q": layer}, ALPHA, 1.0))


def test_strength_zero_and_other_clones_are_the_model_as_it_is(tiny, tmp_path):
    loaded = tiny("wan21")
    save_file(
        named({"blocks.0.self_attn.q": (torch.ones(RANK, 64), torch.ones(64, RANK))}, "bare", "wan21"),
        tmp_path / "lora.safetensors",
    )
    file, plain = read_lora(tmp_path / "lora.safetensors"), output(loaded, loaded.model)
    patched, _ = attach(loaded.model, file)
    assert not torch.equal(output(loaded, patched), plain)
    assert torch.equal(output(loaded, attach(loaded.model, file, 0.0)[0]), plain)
    assert torch.equal(output(loaded, loaded.model), plain)
    assert is_trained(patched) and not is_trained(loaded.model) and not is_trained(attach(loaded.model, file, 0.0)[0])


def test_a_lora_of_another_family_is_refused_by_file_and_counts(tiny, tmp_path):
    save_file(
        named({"blocks.0.q": (torch.ones(RANK, 64), torch.ones(64, RANK))}, "diffusers", "cogvideox10"),
        tmp_path / "cog.safetensors",
    )
    with pytest.raises(
        ValueError, match="cog.safetensors: none of the 2 tensors fits one of the .* layers of this Wan model"
    ):
        attach(tiny("wan21").model, read_lora(tmp_path / "cog.safetensors"))


def test_files_that_are_no_safetensors_are_refused(tmp_path):
    (tmp_path / "old.pt").write_bytes(b"x")
    (tmp_path / "cut.safetensors").write_bytes(b"xxxxxxxxxxxx")
    with pytest.raises(ValueError, match="old.pt is a .pt, and LoRAs are read from .safetensors alone"):
        read_lora(tmp_path / "old.pt")
    with pytest.raises(ValueError, match="cut.safetensors has 12 bytes that are no whole safetensors file"):
        read_lora(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_named_when_a_file_is_loaded(tmp_path, number: float):
    down, up = torch.ones(RANK, 64), torch.ones(64, RANK)
    up[3, 1] = number
    save_file(named({"blocks.0.self_attn.q": (down, up)}, "bare", "wan21"), tmp_path / "lora.safetensors")
    check_lora(tmp_path / "lora.safetensors")  # a header has no numbers
    said = r"lora.safetensors: blocks.0.self_attn.q.lora_\w+.weight has 1 of 192 numbers NaN or infinite"
    with pytest.raises(ValueError, match=said):
        read_lora(tmp_path / "lora.safetensors")


def test_a_config_beside_other_loras_changes_none_of_them(loaded, tmp_path):
    name, model, lora = loaded
    for file in ("one", "two"):
        save_file(named(lora, "bare", name), tmp_path / f"{file}.safetensors")
    outs = []
    for config in ({}, {"lora_alpha": 64}, [1]):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        outs.append(output(model, attach(model.model, read_lora(tmp_path / "one.safetensors"))[0]))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_an_alpha_that_the_user_gives_needs_no_config(tmp_path):
    layer = torch.ones(RANK, 64), torch.ones(64, RANK)
    save_file(named({"blocks.0.self_attn.q": layer}, "bare", "wan21"), tmp_path / "lora.safetensors")
    (tmp_path / "adapter_config.json").write_text("[1]")
    for read in (read_lora, check_lora):
        with pytest.raises(ValueError, match="lora.safetensors: adapter_config.json is .1., not settings by name"):
            read(tmp_path / "lora.safetensors")
        read(tmp_path / "lora.safetensors", given_alpha=True)


def test_a_check_reads_the_header_alone(tmp_path):
    """A file of 200 MB is checked as fast as a small one, where a prompt is posted and the server waits."""
    path = tmp_path / "large.safetensors"
    save_file({"blocks.0.ffn.0.lora_A.weight": torch.zeros(50_000_000)}, path)
    began = time.perf_counter()
    check_lora(path)
    assert time.perf_counter() - began < 0.1


def test_the_demos_lora_fits_the_demo_model():
    model, _, _ = demo_model.load_demo_model()
    file = demo_model.WEIGHTS / demo_model.ANCHOR_LORA_FILE
    patched, converted = attach(model, read_lora(file))
    assert is_trained(patched) and len(converted.layers) == 60 and not converted.left_out
    assert file.stat().st_size < 3_000_000
