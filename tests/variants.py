"""Writes docs/variants.md: what comes of each feature of the pack on each model variant that ComfyUI loads.

    python -m tests.variants                       (in the environment that dev.py made; some minutes)
    python -m tests.variants "Wan VACE" HuMo       prints the rows of variants whose names contain one of these
    python -m tests.variants --true-width "Wan VACE"    the same on a random network of the true width (gigabytes)

Each variant is a tiny network of its true structure, read by core's own loader, with the conditioning that core's own
node makes for it. What may come of a pair: a finite video ("runs"), or a ValueError before an evaluation is finished,
whose words the page gives. Anything else is a fault.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch

from longreel import dev
from tests.comfy_inprocess import import_comfyui

PAGE = dev.ROOT / "docs" / "variants.md"
COMMAND = "python -m tests.variants"
TRUE_WIDTH = "--true-width"
STEPS = 2

import_comfyui()

import comfy.patcher_extension as extension

from longreel.engine.plan.anchor import CLEAN, INPAINT
from longreel.engine.plan.timeline import Timeline
from longreel.hosts import block_count, keys
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.features import focus_preview, prompt_edit
from longreel.hosts.features.focus import Mask
from longreel.hosts.memory import apm, cam, long_memory, short_memory
from longreel.hosts.sampling import joint, planning, refine, rollout
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.windows import latent_blend
from tests import tiny_image_to_video, tiny_models, tiny_variants, variant_conditioning, variants_true_width
from tests.hosts.anchor_cases import anchored
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.memory_cases import drawn
from tests.hosts.rollout_cases import sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.ttt_cases import layers
from tests.hosts.windows.test_latent_blend import encode
from tests.numbered_notes import Notes, read_cell
from tests.tiny_models import LoadedTiny

PLAIN_TITLES = {
    "wan21": "Wan 2.1",
    "wan22_14b_high": "Wan 2.2 14B",
    "wan22_5b": "Wan 2.2 5B",
    "cogvideox10": "CogVideoX",
    "cogvideox15": "CogVideoX 1.5",
    "hunyuan_video": "HunyuanVideo",
    "ltxv": "LTXV",
    "hunyuan_video15": "HunyuanVideo 1.5",
    "kandinsky5": "Kandinsky 5 Video",
}
SAME_AS_ANOTHER = (  # in structure
    "wan22_14b_low",
    "wan22_i2v_low",
    "wan21_camera",
    "wan22_camera",
    "wan21_fun_control",
    "wan22_fun_control",
)
PICTURE_TITLES = {
    "wan21_i2v": "Wan 2.1 I2V",
    "wan21_flf": "Wan 2.1 FLF",
    "wan21_fun_inpaint": "Wan 2.1 Fun-Inpaint",
    "wan22_i2v_high": "Wan 2.2 14B I2V",
    "cogvideox10_i2v": "CogVideoX I2V",
    "cogvideox15_i2v": "CogVideoX 1.5 I2V",
    "hunyuan_i2v_concat": "HunyuanVideo I2V",
    "hunyuan_skyreels_i2v": "SkyReels I2V (HunyuanVideo)",
    "hunyuan_i2v_replace": "HunyuanVideo I2V, first frame clean",
}


@dataclass(frozen=True)
class Wires:
    """A loaded variant and what people wire to it; `wire` changes the prompts of a timeline."""

    load: Callable[[], LoadedTiny]
    wire: Callable[[LoadedTiny, Timeline, tuple], tuple] = lambda loaded, timeline, conds: conds

    @cached_property
    def loaded(self) -> LoadedTiny:
        return self.load()

    @cached_property
    def timeline(self) -> Timeline:
        """Two shots with a cut, the first in two segments or chunks."""
        return story(self.loaded.model, ("continue", "cut"), frames=6, segment=5, overlap=1)

    @cached_property
    def conds(self) -> tuple:
        with torch.inference_mode():
            return self.wire(self.loaded, self.timeline, encode(self.loaded, self.timeline))

    @cached_property
    def blocks(self) -> frozenset[int]:
        return frozenset(range(block_count(self.loaded.model)))

    def settings(self, model):
        return sampling_of(self.conds, sigmas_of(model, STEPS), sampler_for(model))


def with_picture(loaded: LoadedTiny, timeline: Timeline, conds: tuple) -> tuple:
    """Return the prompts with a start picture, where core's classes read it."""
    latent = torch.zeros(1, timeline.facts.latent_channels, timeline.latent_frames, 8, 8)
    latent[:, :, :1] = anchored(loaded, 0).latent[:, :, :1]
    mask = torch.ones(1, 1, *latent.shape[2:])
    mask[:, :, 0] = 0
    return variant_conditioning.with_values(conds, {"concat_latent_image": latent, "concat_mask": mask})


def of_variant(name: str, **options) -> Wires:
    return Wires(
        lambda: tiny_variants.load(name), lambda *given: variant_conditioning.conditioning_of(name, *given, **options)
    )


def all_variants() -> dict[str, Wires]:
    """Return every variant by the name that the page gives it."""
    plain = {
        PLAIN_TITLES.get(name, name): Wires(lambda name=name: tiny_models.make_tiny_models()[name].load())
        for name in tiny_models.MODELS
        if name not in SAME_AS_ANOTHER
    }
    pictures = {
        PICTURE_TITLES.get(name, name): Wires(lambda name=name: tiny_image_to_video.load(name), with_picture)
        for name in tiny_image_to_video.VARIANTS
        if name not in SAME_AS_ANOTHER
    }
    built = {entry.title: of_variant(name) for name, entry in tiny_variants.VARIANTS.items() if name != "animate"}
    built["Wan VACE with a reference picture"] = of_variant("vace", reference=True)
    built["Wan 2.2 Animate"] = of_variant("animate", face=False)
    return plain | pictures | built


def at_true_width() -> dict[str, Wires]:
    """Return the families and variants whose true widths are known, with as many blocks as their parts need."""
    families = {
        PLAIN_TITLES[name]: Wires(partial(variants_true_width.load_family, name, blocks=2))
        for name in variants_true_width.FAMILIES
    }
    return families | {
        tiny_variants.VARIANTS[name].title: Wires(
            partial(variants_true_width.load, name, blocks=5 if name == "animate" else 2), of_variant(name).wire
        )
        for name in variants_true_width.TRUE_WIDTHS
    }


# --- Longreel's nodes, and how a MODEL behind them is sampled --------------------------------------------------------


def blended(of: Wires, model):
    return latent_blend.attach(model, of.timeline, "triangle")


def sample_joint(of: Wires, model) -> torch.Tensor:
    return joint.sample_attached(model, of.timeline, planning.empty_latent(of.timeline), of.settings(model))["samples"]


def sample_rollout(of: Wires, model) -> torch.Tensor:
    latent = planning.empty_latent(of.timeline)
    return rollout.sample_rollout(model, of.timeline, latent, of.settings(model))[0]["samples"]


def sample_refined(of: Wires, model) -> torch.Tensor:
    full = {"samples": planning.empty_latent(of.timeline)["samples"] + 0.1}
    return refine.refine(model, full, of.settings(model), strength=1.0, timeline=of.timeline)["samples"]


def preview(of: Wires, model) -> torch.Tensor:
    mask = focus_preview.Mask(("scene",), 0.3)
    latent = planning.empty_latent(of.timeline)
    return focus_preview.focus_maps(
        model, of.timeline, of.conds[0], latent, sampler_for(model), mask, of.blocks, 0.5, 1
    )


def shared(of: Wires, model, **changed):
    return blended(of, patching.attach(model, replace(PLAIN, **changed)))


def editing(of: Wires, model):
    reweight = prompt_edit.Reweight(("scene",), 2.0, prompt_edit.prompt_edit.LOGITS, 0.0, 1.0)
    layout = prompt_edit.Layout(None, 0.0, 0.5)
    return blended(of, prompt_edit.attach(model, prompt_edit.PromptEdit(of.blocks, reweight, layout)))


def known_frames(of: Wires, model, shown: str = short_memory.CLEAN):
    return short_memory.attach(model, short_memory.KnownFrames(shown, 0, 1.0, 0.0))


def reading(of: Wires, model):
    return short_memory.attach(model, short_memory.KeysAndValues(2, 0.5, 0.0, of.blocks))


def anchoring(of: Wires, model):
    return patching.attach(model, long_memory.LongMemory(long_memory.VIDEO, 2, long_memory.BEFORE, 0.5, of.blocks, 0.5))


def with_cam(of: Wires, model):
    new = cam.with_cam(model, None).model_options["transformer_options"][keys.CAM].memory
    return cam.attach(model, drawn(new))


def with_apm(of: Wires, model):
    new = apm.with_apm(model, None, text_tokens=64).model_options["transformer_options"][keys.APM].memory
    return apm.attach(model, drawn(new))


def with_anchor(of: Wires, model, mode: str):
    return blended(of, anchor_frame.attach(model, [anchored(of.loaded, 3, mode)]))


@dataclass(frozen=True)
class Feature:
    """on: puts the node or nodes on a MODEL. sample: makes a tensor with it."""

    on: Callable
    sample: Callable


FEATURES = {
    "joint": Feature(blended, sample_joint),
    "KV Share": Feature(shared, sample_joint),
    "KV Share, masks by words": Feature(lambda *given: shared(*given, mask=Mask(("scene",), 0.3)), sample_joint),
    "Focus Preview": Feature(lambda of, model: model.clone(), preview),
    "Prompt Edit": Feature(editing, sample_joint),
    "Anchor Frame (clean)": Feature(lambda *given: with_anchor(*given, CLEAN), sample_joint),
    "Anchor Frame (inpaint)": Feature(lambda *given: with_anchor(*given, INPAINT), sample_joint),
    "Refine": Feature(lambda of, model: model.clone(), sample_refined),
    "new TTT layers": Feature(lambda of, model: blended(of, ttt.apply(model, layers(model))), sample_joint),
    "rollout": Feature(lambda of, model: model.clone(), sample_rollout),
    "Short Memory (known frames)": Feature(known_frames, sample_rollout),
    "Short Memory (keys and values)": Feature(reading, sample_rollout),
    "Long Memory": Feature(anchoring, sample_rollout),
    "CAM": Feature(with_cam, sample_rollout),
    "APM": Feature(with_apm, sample_rollout),
}


# --- one pair --------------------------------------------------------------------------------------------------------


@contextmanager
def counted(model):
    """Yield a clone whose finished evaluations are counted in the list."""
    calls, model = [], model.clone()

    def count(executor, *args, **kwargs):
        made = executor(*args, **kwargs)
        calls.append(1)
        return made

    model.add_wrapper_with_key(extension.WrappersMP.APPLY_MODEL, "count", count)
    yield model, calls


def cell(of: Wires, feature: str) -> str:
    """Return what the page says of a pair."""
    with torch.inference_mode(), counted(of.loaded.model) as (model, calls):
        try:
            asked = FEATURES[feature]
            made = asked.sample(of, asked.on(of, model))
        except ValueError as error:
            return f"refused: {error}" if not calls else f"FAULT, refused after {len(calls)} evaluations: {error}"
        except Exception as error:  # noqa: BLE001 - it is what the table is made of
            return f"FAULT, {type(error).__name__}: {error}"
    return "runs" if made.isfinite().all() else "FAULT, not finite"


# --- the page --------------------------------------------------------------------------------------------------------


def page(cells: dict[tuple[str, str], str], variants: dict[str, Wires]) -> str:
    """Return the page: a table of words, with the messages below it by number."""
    notes = Notes(("runs",), lambda text: "FAULT" if text.startswith("FAULT") else "refused")
    lines = [
        "# Features on model variants",
        "",
        f"Generated: `{COMMAND}` writes this page anew, and a test holds a part of it. Each variant is a tiny network",
        "of its true structure, read by ComfyUI's own loader, with the conditioning that ComfyUI's own nodes make of",
        "control, sound, poses or references for the whole timeline, or a start picture.",
        "",
        "- **runs**: the video is made, and it is finite. The weights are random: nothing is said of how it looks.",
        "- **refused**: before the first evaluation of the network is finished, in the words of the note.",
        "",
        f'At the true width of its network, with random weights and few blocks: `{COMMAND} --true-width "Wan VACE"`,',
        f"and so {', '.join(name for name in at_true_width() if name != 'Wan VACE')}.",
        "Run so (November 2026): Wan 2.1 (1.3B's width), Wan 2.2 5B, CogVideoX 5B, HunyuanVideo, HunyuanVideo 1.5,",
        "LTXV 2B, Kandinsky 5 lite and Wan VACE, each with the results of this page.",
        "",
    ]
    for variant in variants:
        found = {notes.cell(cells[variant, feature]) for feature in FEATURES}
        title = f"{variant}: everything runs" if found == {"runs"} else variant
        lines += [f"## {title}", ""]
        if found != {"runs"}:
            lines += ["| feature | what comes of it |", "|---|---|"]
            lines += [f"| {feature} | {notes.cell(cells[variant, feature])} |" for feature in FEATURES] + [""]
    return "\n".join(lines + notes.lines()) + "\n"


def written(variant: str, feature: str) -> str:
    """Return what the page says of a pair, as `cell` does."""
    text = PAGE.read_text("utf-8")
    if f"## {variant}: everything runs\n" in text:
        return "runs"
    return read_cell(text, variant, feature)


def main() -> None:
    """Write the page; names behind the command print their rows alone."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    names = sys.argv[1:]
    variants = all_variants()
    if TRUE_WIDTH in names:
        names.remove(TRUE_WIDTH)
        variants = at_true_width()
    chosen = {title: of for title, of in variants.items() if not names or any(name in title for name in names)}
    cells = {}
    for title, of in chosen.items():
        for feature in FEATURES:
            cells[title, feature] = cell(of, feature)
            print(f"{title} | {feature} | {cells[title, feature]}", flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(page(cells, variants), "utf-8")
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
