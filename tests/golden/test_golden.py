"""Every golden tensor of the papers' public code, computed by the pack.

The folder is $LONGREEL_GOLDEN, else ../shared/golden beside the checkout, else the copied subset in tests/golden/data.
Outputs and tolerances are those of data/CONTRACT.md and the READMEs there.
"""

import json
import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open

from tests.golden import adapter

HERE = Path(__file__).resolve().parent
BUNDLED = HERE / "data"


class Answer(NamedTuple):
    """Which tensors a kind returns (names, `*` for any ending) and how near they must be: |got - want| <= atol + rtol *
    |want|."""

    outputs: tuple[str, ...]
    atol: float
    rtol: float = 0.0


_TTT_OP = ("out_kernel_emul", "*_final", "grad_X?", "grad_ln_*", "grad_*_init")  # grad_out is an input
BUILT = {  # `*` in a kind stands for anything; the first that fits counts
    "ttt/op_*_etarows": Answer(("out_last_eta", *_TTT_OP), 2e-5, 1e-4),
    "ttt/op_": Answer(("out", *_TTT_OP), 2e-5, 1e-4),
    "ttt/layer_*_aligned": Answer(("out", "out_last_eta", "out_kernel_emul"), 2e-5, 1e-4),
    "ttt/layer_*_unaligned": Answer(("out_last_eta", "out_kernel_emul"), 2e-5, 1e-4),
    "ttt/block_": Answer(("out_vid_last_eta", "out_text_last_eta"), 2e-5, 1e-4),
    "ttt/tlayer_": Answer(("out_vid_last_eta", "out_text_last_eta"), 2e-5, 1e-4),
    "ttt/dit_": Answer(("out_last_eta",), 5e-5),
    "ttt/sampler_": Answer(("out", "x_after_step"), 2e-5, 1e-4),
    "ditctrl/a_blend": Answer(("blended", "weight", "coef"), 1e-6),
    "ditctrl/a2_": Answer(("latent_after_step", "final"), 2e-5),
    "ditctrl/a3_": Answer(("latent_after_step", "final"), 2e-5),
    "ditctrl/b_mask": Answer(("norm_map_*", "given_norm_map_*"), 1e-5),
    "ditctrl/c_kvshare": Answer(("out_*",), 1e-5),
    "ditctrl/c2_pass": Answer(("out", "src_maps", "tgt_maps"), 2e-5),
    "ditctrl/d_cscv": Answer(("score64_*",), 1e-9),
    "ditctrl/e_reweight": Answer(("out_step*",), 1e-5),
    "ditctrl/g_tiny_dit": Answer(("final_*",), 1e-4),
    "ditctrl/f_layout": Answer(("starts", "segment_emb", "base_starts"), 1e-6),
    "streamingt2v/blend_x0_": Answer(("blended_x0", "final_latents"), 2e-5),
    "streamingt2v/blend_xprev_ddim": Answer(("final_latents",), 0.0, 2e-5),
    "streamingt2v/blend_paper_formula": Answer(("blended",), 0.0),
    "streamingt2v/cam_cross_attention": Answer(("out.sample",), 2e-5),
    "streamingt2v/svd_cam_cross_attention": Answer(("out.sample",), 2e-5),
    "streamingt2v/cam_econd": Answer(("out.embedding",), 1e-5),
    "streamingt2v/svd_cam_econd": Answer(("out.embedding",), 1e-5),
    "streamingt2v/apm_mixing": Answer(("out.image_tokens", "out.mixed", "out.cross_context"), 1e-5),
    "streamingt2v/mawe_": Answer(("mawe_code", "mawe_final_paper", "pair_*"), 0.0, 1e-5),
}


def golden_folder() -> Path:
    if os.environ.get("LONGREEL_GOLDEN"):
        return Path(os.environ["LONGREEL_GOLDEN"])
    beside = HERE.parents[2] / "shared" / "golden"
    return beside if beside.is_dir() else BUNDLED


def golden_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*/*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no golden files in {folder}; set LONGREEL_GOLDEN to the folder above ttt/")
    return files


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The file's tensors and its metadata, decoded as data/CONTRACT.md says."""
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safetensors files do not iterate)
        raw = file.metadata()
    whole = {"ttt": "meta", "streamingt2v": "config"}.get(path.parent.name)
    if whole:
        return tensors, json.loads(raw[whole])
    return tensors, {key: json.loads(value) for key, value in raw.items()}


def answer_of(path: Path) -> Answer | None:
    return next((answer for kind, answer in BUILT.items() if fnmatch(label(path), f"{kind}*")), None)


def answered_and_wanted(path: Path, answer: Answer) -> tuple[dict, dict]:
    """What the adapter returns for a file without its outputs, and those outputs."""
    tensors, meta = read(path)
    outputs = [key for key in tensors if any(fnmatch(key, pattern) for pattern in answer.outputs)]
    wanted = {key: tensors.pop(key) for key in outputs}
    torch.manual_seed(0)  # nothing may depend on it, and a leak should at least repeat
    return adapter.run(path.parent.name, path.stem, tensors, meta), wanted


def naming(key: str) -> Callable[[str], str]:
    return lambda text: f"{key}: {text}"


FILES = golden_files(golden_folder())


@pytest.mark.parametrize("path", [path for path in FILES if answer_of(path)], ids=label)
def test_the_pack_computes_the_golden_outputs(path: Path) -> None:
    answer = answer_of(path)
    got, wanted = answered_and_wanted(path, answer)
    assert wanted and set(got) == set(wanted)
    for key, want in wanted.items():
        assert got[key].shape == want.shape, key
        assert got[key].dtype == want.dtype, key
        torch.testing.assert_close(got[key], want, atol=answer.atol, rtol=answer.rtol, msg=naming(key))


def test_every_file_is_of_a_kind_that_is_built() -> None:
    assert [label(path) for path in FILES if not answer_of(path)] == []


def test_the_bundled_subset_holds_every_kind_that_is_answered_but_four_large_ones() -> None:
    bundled = {label(path) for path in golden_files(BUNDLED)}
    missing = {kind for kind in BUILT if not any(fnmatch(name, f"{kind}*") for name in bundled)}
    assert missing == {"ttt/tlayer_", "ttt/dit_", "ditctrl/c2_pass", "streamingt2v/apm_mixing"}
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 3_000_000


def test_the_adapter_has_one_public_function() -> None:
    own = [name for name, value in vars(adapter).items() if getattr(value, "__module__", None) == adapter.__name__]
    assert [name for name in own if not name.startswith("_")] == ["run"]


def test_an_unknown_family_or_kind_is_named() -> None:
    with pytest.raises(NotImplementedError, match="ttt/nonsense"):
        adapter.run("ttt", "nonsense_1", {}, {})
    with pytest.raises(NotImplementedError, match="sora/op"):
        adapter.run("sora", "op_1", {}, {})


@pytest.mark.parametrize("key", ["noises", "x_init", "toy_matrix", "uncond"])
def test_changing_an_input_changes_the_answer(key: str) -> None:
    """The answers are computed, not looked up."""
    path = BUNDLED / "ttt" / "sampler_steps50.safetensors"
    tensors, meta = read(path)
    before = adapter.run("ttt", path.stem, tensors, meta)["out"]
    after = adapter.run("ttt", path.stem, {**tensors, key: tensors[key] + 0.05}, meta)["out"]
    assert not torch.equal(before, after)
