"""Writes docs/neighbours.md: what comes of each of core's nodes that change a MODEL, beside each feature of the pack.

    python -m tests.neighbours    (in the environment that dev.py made; some minutes)

Every pair is sampled on a tiny model, the other node in front of Longreel's and behind it. What may come of it: the
results are equal whichever comes first, and differ from those without the node ("works") or do not ("equal"); or a
ValueError that names the node before the network is evaluated. Anything else is a fault. Nodes of other packs are
played by shims of their public shape; a GPU is not seen.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import torch

from longreel import dev
from tests.comfy_inprocess import import_comfyui

PAGE = dev.ROOT / "docs" / "neighbours.md"
COMMAND = "python -m tests.neighbours"
STEPS = 4
CLOSE = 1e-4  # of the largest number: devices evaluate prompts apart
UNKNOWABLE = "a wrapper that skips evaluations"  # of which nothing tells before it happens

import_comfyui()

import comfy.model_management
import comfy.multigpu
import comfy.patcher_extension as extension
from comfy_extras import (
    nodes_apg,
    nodes_cfg,
    nodes_differential_diffusion,
    nodes_easycache,
    nodes_model_advanced,
    nodes_nag,
    nodes_perpneg,
    nodes_slg,
    nodes_torch_compile,
    nodes_video_model,
)

from longreel.engine.plan.timeline import Timeline
from longreel.hosts import keys
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.features import focus_preview, prompt_edit
from longreel.hosts.features.focus import Mask
from longreel.hosts.memory import apm, cam, short_memory
from longreel.hosts.sampling import planning, refine, rollout
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.anchor_cases import anchored
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.memory_cases import drawn
from tests.hosts.rollout_cases import sampler_for, sigmas_of, story
from tests.hosts.sampling.test_core_windows_and_caches import ANCHORED, KEYS, WINDOWS, windowed
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.ttt_cases import layers
from tests.hosts.windows.test_latent_blend import encode
from tests.numbered_notes import Notes, read_cell
from tests.tiny_models import LoadedTiny, make_tiny_models


@cache
def loaded() -> LoadedTiny:
    return make_tiny_models()["wan21"].load()


@cache
def timeline() -> Timeline:
    """Two shots with a cut, the first in two segments, one of which has a frame in front."""
    return story(loaded().model, ("continue", "cut"), frames=6, segment=5, overlap=1)


@cache
def conds() -> tuple[list, list]:
    return encode(loaded(), timeline())


MASKED = replace(PLAIN, mask=Mask(("scene",), 0.3))


# --- Longreel's nodes, and how a MODEL behind them is sampled --------------------------------------------------------


def blended(model):
    return latent_blend.attach(model, timeline(), "triangle")


def sample_core(model) -> torch.Tensor:
    return tiny_sampling.sample(model, *conds(), planning.empty_latent(timeline()), steps=STEPS)


def settings(model):
    return sampling_of(conds(), sigmas_of(model, STEPS), sampler_for(model))


def sample_rollout(model) -> torch.Tensor:
    latent = planning.empty_latent(timeline())
    return rollout.sample_rollout(model, timeline(), latent, settings(model))[0]["samples"]


def sample_refined(model) -> torch.Tensor:
    full = {"samples": planning.empty_latent(timeline())["samples"] + 0.1}
    return refine.refine(model, full, settings(model), strength=1.0, timeline=timeline())["samples"]


def preview(model) -> torch.Tensor:
    mask = focus_preview.Mask(("scene",), 0.3)
    latent = planning.empty_latent(timeline())
    return focus_preview.focus_maps(
        model, timeline(), conds()[0], latent, sampler_for(model), mask, frozenset({0, 1}), 0.5, 1
    )


def with_cam(model):
    new = cam.with_cam(model, None).model_options["transformer_options"][keys.CAM].memory
    return cam.attach(model, drawn(new))


def with_apm(model):
    new = apm.with_apm(model, None, text_tokens=64).model_options["transformer_options"][keys.APM].memory
    return apm.attach(model, drawn(new))


def editing(model):
    reweight = prompt_edit.Reweight(("scene",), 2.0, prompt_edit.prompt_edit.LOGITS, 0.0, 1.0)
    layout = prompt_edit.Layout(None, 0.0, 0.5)
    return blended(prompt_edit.attach(model, prompt_edit.PromptEdit(frozenset({0, 1}), reweight, layout)))


def known_frames(model):
    return short_memory.attach(model, short_memory.KnownFrames(short_memory.CLEAN, 0, 1.0, 0.0))


@dataclass(frozen=True)
class Feature:
    """on: puts the node or nodes on a MODEL. sample: makes a tensor with it."""

    on: Callable
    sample: Callable


FEATURES = {
    "Latent Blend": Feature(blended, sample_core),
    "KV Share": Feature(lambda model: blended(patching.attach(model, PLAIN)), sample_core),
    "KV Share, masks by words": Feature(lambda model: blended(patching.attach(model, MASKED)), sample_core),
    "Prompt Edit": Feature(editing, sample_core),
    "Focus Preview": Feature(lambda model: model.clone(), preview),
    "Anchor Frame": Feature(lambda model: blended(anchor_frame.attach(model, [anchored(loaded(), 3)])), sample_core),
    "Apply TTT": Feature(lambda model: blended(ttt.apply(model, layers(model))), sample_core),
    "Refine": Feature(lambda model: model.clone(), sample_refined),
    "rollout": Feature(lambda model: model.clone(), sample_rollout),
    "Short Memory (known frames)": Feature(known_frames, sample_rollout),
    "Short Memory (keys and values)": Feature(lambda model: short_memory.attach(model, KEYS), sample_rollout),
    "Long Memory": Feature(lambda model: patching.attach(model, ANCHORED), sample_rollout),
    "CAM": Feature(with_cam, sample_rollout),
    "APM": Feature(with_apm, sample_rollout),
}


# --- the other nodes -------------------------------------------------------------------------------------------------


def out(made):
    return (made.args if hasattr(made, "args") else made)[0]


def sage_like(model):
    """An override that takes its attention elsewhere, as packs for SageAttention put it."""
    model = model.clone()

    def override(func, q, k, v, heads, mask=None, **kwargs):
        return func(q, k, v, heads, mask=mask, **kwargs) * 1.01

    model.model_options["transformer_options"][patching.OVERRIDE] = override
    return model


def teacache_like(model):
    """The public nodes' shape: a threshold in transformer_options, and a forward_orig of their own for each call."""
    model, last = model.clone(), {}
    model.model_options["transformer_options"]["rel_l1_thresh"] = 0.2
    network = model.get_model_object("diffusion_model")
    own = network.forward_orig

    def forward_orig(x, *args, **kwargs):
        if "kept" not in last:
            last["kept"] = own(x, *args, **kwargs)
        return last["kept"]

    def wrapper(apply_model, given):
        with mock.patch.object(network, "forward_orig", forward_orig):
            return apply_model(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(wrapper)
    return model


def skipping(model):
    """A wrapper that answers every second time with what it saw before, and leaves no sign of it."""
    model, seen = model.clone(), {}

    def wrapper(apply_model, given):
        place = (*given["cond_or_uncond"], given["input"].shape)
        if place in seen:
            return seen.pop(place)
        seen[place] = apply_model(given["input"], given["timestep"], **given["c"])
        return seen[place]

    model.set_model_unet_function_wrapper(wrapper)
    return model


def reinstalling(model):
    """An override that puts itself back before each sampling, and is dense where lengths differ, as in newer cores."""
    model = model.clone()

    def override(func, q, k, v, heads, mask=None, **kwargs):
        result = func(q, k, v, heads, mask=mask, **kwargs)
        return result * 1.01 if q.shape == k.shape else result

    def install(patcher, timestep, model_options, *args):
        model_options["transformer_options"][patching.OVERRIDE] = override

    model.add_callback(extension.CallbacksMP.ON_PREPARE_STATE, install)
    return model


def with_lora(model):
    model = model.clone()
    weight = model.model.diffusion_model.blocks[1].self_attn.q.weight
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    model.add_patches({"diffusion_model.blocks.1.self_attn.q.weight": ("diff", (change,))})
    return model


def on_two_devices(model):
    """Core's clones for several GPUs, on two devices that are one CPU."""
    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    with mock.patch.object(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices):
        return comfy.multigpu.create_multigpu_deepclones(model, 2, reuse_loaded=False)


def perp_neg(model):
    return nodes_perpneg.PerpNeg.execute(model, tiny_sampling.encode(loaded().clip, "nothing"), 1.0)


def skip_layers(numbers: str, node=nodes_slg.SkipLayerGuidanceDiT):
    given = {"scale": 3.0} if node is nodes_slg.SkipLayerGuidanceDiT else {}
    return lambda model: node.execute(
        model, start_percent=0.0, end_percent=1.0, double_layers=numbers, single_layers=numbers, **given
    )


NEIGHBOURS = {
    "LazyCache": lambda model: nodes_easycache.LazyCacheNode.execute(model, 3.0, 0.0, 1.0, False),
    "EasyCache": lambda model: nodes_easycache.EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False),
    "APG": lambda model: nodes_apg.APG.execute(model, 1.0, 5.0, 0.5),
    "CFGZeroStar": nodes_cfg.CFGZeroStar.execute,
    "CFGNorm": lambda model: nodes_cfg.CFGNorm.execute(model, 1.0),
    "RescaleCFG": lambda model: nodes_model_advanced.RescaleCFG().patch(model, 0.7),
    "VideoLinearCFGGuidance": lambda model: nodes_video_model.VideoLinearCFGGuidance().patch(model, 1.0),
    "NAGuidance": lambda model: nodes_nag.NAGuidance.execute(model, 5.0, 0.5, 1.5),
    "PerpNeg": perp_neg,
    "ModelSamplingSD3": lambda model: nodes_model_advanced.ModelSamplingSD3().patch(model, 5.0),
    "SkipLayerGuidanceDiT, block 1": skip_layers("1"),
    "SkipLayerGuidanceDiT, block 3": skip_layers("3"),
    "SkipLayerGuidanceDiTSimple, block 1": skip_layers("1", nodes_slg.SkipLayerGuidanceDiTSimple),
    "WanContextWindowsManual": lambda model: (windowed(model),),
    "ContextWindowsManual": lambda model: (windowed(model, next(iter(WINDOWS))),),
    "DifferentialDiffusion": lambda model: nodes_differential_diffusion.DifferentialDiffusion.execute(model, 1.0),
    "LoRA": lambda model: (with_lora(model),),
    "MultiGPU CFG Split": lambda model: (on_two_devices(model),),
    "TorchCompileModel": lambda model: nodes_torch_compile.TorchCompileModel.execute(model, "eager"),
    "an attention override, like SageAttention's": lambda model: (sage_like(model),),
    "an override that installs itself anew": lambda model: (reinstalling(model),),
    "TeaCache, by its keys": lambda model: (teacache_like(model),),
    UNKNOWABLE: lambda model: (skipping(model),),
}


# --- one pair --------------------------------------------------------------------------------------------------------


@contextmanager
def counted(model):
    """Yield a clone whose evaluations are counted in the list."""
    calls, model = [], model.clone()

    def count(executor, *args, **kwargs):
        calls.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(extension.WrappersMP.APPLY_MODEL, "count", count)
    yield model, calls


def made(feature: Feature, neighbour: Callable | None, first: bool) -> torch.Tensor | str:
    """Return what is sampled with the other node in front (first) or behind, or how it was refused."""
    with torch.inference_mode(), counted(loaded().model) as (model, calls):
        try:
            if neighbour is None:
                model = feature.on(model)
            else:
                model = feature.on(out(neighbour(model))) if first else out(neighbour(feature.on(model)))
            return feature.sample(model)
        except ValueError as error:
            return f"refused: {error}" if not calls else f"FAULT, refused after {len(calls)} evaluations: {error}"
        except Exception as error:  # noqa: BLE001 - it is what the table is made of
            return f"FAULT, {type(error).__name__}: {error}"


@cache
def without(name: str) -> torch.Tensor:
    return made(FEATURES[name], None, True)


def cell(neighbour: str, feature: str) -> str:
    """Return what the page says of a pair."""
    ways = [made(FEATURES[feature], NEIGHBOURS[neighbour], first) for first in (True, False)]
    said = [way if isinstance(way, str) else described(way, without(feature)) for way in ways]
    if neighbour == UNKNOWABLE:
        said = [text.replace("FAULT, ", "late, ") for text in said]
    if said[0] != said[1]:
        return f"in front: {said[0]}; behind: {said[1]}"
    if isinstance(ways[0], torch.Tensor) and not torch.equal(*ways) and not close(*ways):
        return f"FAULT, the orders differ by {(ways[0] - ways[1]).abs().max():.3g}"
    return said[0]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= CLOSE * other.abs().max())


def described(result: torch.Tensor, base: torch.Tensor) -> str:
    if not result.isfinite().all():
        return "FAULT, not finite"
    return "equal" if close(result, base) else "works"


# --- the page --------------------------------------------------------------------------------------------------------


def word_of(text: str) -> str:
    return "late" if text.startswith("late") else "mixed" if text.startswith("in front") else "refused"


def page(cells: dict[tuple[str, str], str]) -> str:
    """Return the page: a table of words, with the messages below it by number."""
    notes = Notes(("works", "equal"), word_of)
    lines = [
        "# Other nodes beside Longreel's",
        "",
        f"Generated: `{COMMAND}` writes this page anew, and a test holds a part of it. Each pair was",
        "sampled on a tiny Wan model with the other node in front of Longreel's and behind it. Two devices are one",
        "CPU, and nodes of other packs are played by shims of their public shape.",
        "",
        "- **works**: the results are the same either way, and the node has its effect.",
        "- **equal**: the same either way, and as without the node.",
        "- **refused**: before the network is evaluated, in the words of the note.",
        "- **mixed**: it depends on which comes first, as the note says.",
        "- **late**: found while sampling, because nothing tells before.",
        "",
    ]
    for neighbour in NEIGHBOURS:
        lines += [f"## {neighbour}", "", "| beside | what comes of it |", "|---|---|"]
        lines += [f"| {feature} | {notes.cell(cells[neighbour, feature])} |" for feature in FEATURES] + [""]
    return "\n".join(lines + notes.lines()) + "\n"


def written(neighbour: str, feature: str) -> str:
    """Return what the page says of a pair, as `cell` does."""
    return read_cell(PAGE.read_text("utf-8"), neighbour, feature)


def main() -> None:
    """Write the page; names of other nodes behind the command print their cells alone."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    cells = {}
    for neighbour in sys.argv[1:] or NEIGHBOURS:
        for feature in FEATURES:
            cells[neighbour, feature] = cell(neighbour, feature)
            print(f"{neighbour} | {feature} | {cells[neighbour, feature]}", flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(page(cells), "utf-8")
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
