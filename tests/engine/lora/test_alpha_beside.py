"""An adapter_config.json counts for the LoRA that it was saved with, and says nothing of the others in its folder."""

import json
import time

import pytest
import torch

from longreel.engine.lora.keys import MOST_ALPHA, alpha_and_source, convert, stated_alpha

OTHER = {"peft_type": "LORA", "r": 8, "lora_alpha": 64, "base_model_name_or_path": "some/other-model"}
LAYERS = {"blocks.0.ffn.0": torch.Size((8, 8))}


def lora(layer="blocks.0.ffn.0") -> dict[str, torch.Tensor]:
    return {f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps(OTHER))
    return tmp_path


def test_in_a_folder_of_many_it_counts_for_pefts_own_file_alone(folder):
    for name in ("one.safetensors", "two.safetensors", "adapter_model.safetensors"):
        (folder / name).touch()
    assert stated_alpha({}, folder / "one.safetensors") is None
    assert stated_alpha({}, folder / "two.safetensors") is None
    assert stated_alpha({}, folder) is None, "nobody knows which LoRA is meant"
    assert alpha_and_source(None, folder / "adapter_model.safetensors") == (64.0, "adapter_config.json")


@pytest.mark.parametrize("beside", ["other.safetensors", "old.pt", "OTHER.CKPT"])
def test_a_lora_that_has_the_folder_to_itself_may_have_any_name(folder, beside: str):
    (folder / "mine.safetensors").touch()
    (folder / "README.md").touch()
    assert stated_alpha({}, folder / "mine.safetensors") == 64.0
    (folder / beside).touch()
    assert stated_alpha({}, folder / "mine.safetensors") is None


def test_the_files_own_metadata_comes_first(folder):
    (folder / "mine.safetensors").touch()
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 4})}
    assert alpha_and_source(metadata, folder / "mine.safetensors") == (4.0, "the file's metadata")


BROKEN = {
    "[1]": r"adapter_config.json is \[1\], not settings by name",
    '{"lora_alpha": [1]}': r"lora_alpha is \[1\], not a number above 0",
    '{"lora_alpha": "x"}': "lora_alpha is 'x', not a number above 0",
    '{"lora_alpha": true}': "lora_alpha is True, not a number above 0",
    '{"lora_alpha": NaN}': "lora_alpha is nan, not a number above 0",
    '{"lora_alpha": 1e999}': "lora_alpha is inf, not a number above 0",
    '{"lora_alpha": 1e30}': r"lora_alpha is 1e\+30, not a number above 0 and up to 65,536",
    '{"lora_alpha": -1}': "lora_alpha is -1, not a number above 0",
    '{"alpha_pattern": 3}': "alpha_pattern is 3, not alphas by layer",
    '{"alpha_pattern": ["q"]}': r"alpha_pattern is \['q'\], not alphas by layer",
    '{"lora_alpha": 1, "alpha_pattern": {"q": 2}}': "has 1 alphas for layers of their own",
    "[" * 100_000: "100000 characters that are no JSON .nested too deeply.",
    '{"lora_alpha": ' + "9" * 5000 + "}": "characters that are no JSON",
    "\ud800": "is no text in UTF-8",
    " " * 2**21: "has 2,097,152 bytes, and PEFT's has some hundred",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:24].strip() or "blanks")
def test_a_broken_one_is_named_where_it_counts_and_nowhere_else(tmp_path, text: str):
    (tmp_path / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "other.safetensors").touch()
    assert stated_alpha({}, tmp_path / "other.safetensors") is None
    with pytest.raises(ValueError, match=f"adapter_config.json.*{BROKEN[text]}|{BROKEN[text]}"):
        stated_alpha({}, tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize("text", list(BROKEN)[:13], ids=lambda text: text[:24])
def test_broken_metadata_of_the_file_is_named_too(text: str):
    with pytest.raises(ValueError, match="the file's metadata"):
        stated_alpha({"lora_adapter_metadata": text}, None)


def test_the_report_names_where_alpha_comes_from():
    made = convert(lora(), "Wan", LAYERS, alpha=64.0, alpha_source="adapter_config.json")
    assert "alpha 64 for rank 2, as adapter_config.json says" in made.summary()
    assert MOST_ALPHA > 4096


def test_a_file_of_strange_names_is_refused_at_once():
    """20,000 names that fit nothing, and one that a careless loop would shorten for hours."""
    weights = {f"foo.bar{number}.attn.lora_A.weight": torch.zeros(4, 8) for number in range(20_000)}
    weights["model." * 1_000_000 + "lora_A.weight"] = torch.zeros(4, 8)
    began = time.perf_counter()
    with pytest.raises(ValueError, match="none of the 20001 tensors fits one of the 1 layers") as refused:
        convert(weights, "Wan", LAYERS)
    assert time.perf_counter() - began < 5
    with pytest.raises(ValueError, match="2 of 20003 tensors fit this Wan model and 20001 do not") as refused:
        convert({**weights, **lora()}, "Wan", LAYERS)
    assert len(str(refused.value)) < 1000
