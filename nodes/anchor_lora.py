"""Longreel Load Anchor LoRA: a LoRA under the names of any trainer, put onto a model, or refused aloud."""

import asyncio
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..hosts import demo_model
from ..hosts.anchor.lora import attach, check_lora, read_lora
from .folders import fingerprint, model_file
from .ranges import check_ranges

FOLDER = "loras"  # below ComfyUI's models
MOST_ALPHA = 4096.0
BUNDLED = "demo model's anchor LoRA (comes with Longreel)"


class LongreelLoadAnchorLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLoadAnchorLoRA",
            display_name="Longreel Load Anchor LoRA",
            category="Longreel/anchor",
            description="Puts a LoRA onto a model whatever names its trainer gave the layers: diffusers, PEFT, bare, "
            "DiffSynth, ComfyUI's own. Refuses a file that fits the model not at all or in part. Made for "
            "anchor LoRAs; loads any LoRA of a supported video model.",
            search_aliases=["fvg", "avg", "factorized video", "lora loader", "diffusers lora", "peft lora"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "Any supported video model. Of Wan 2.2 14B each expert gets the LoRA that was trained for it."
                    ),
                ),
                io.Combo.Input(
                    "file",
                    options=[BUNDLED, *folder_paths.get_filename_list(FOLDER)],
                    tooltip=(
                        "A .safetensors file of models/loras, or the LoRA of the demo model. A changed file is read "
                        "again."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip=("How much of the LoRA counts: 1 as trained, 0 the model as it is."),
                ),
                io.Float.Input(
                    "alpha",
                    default=0.0,
                    min=0.0,
                    max=MOST_ALPHA,
                    step=1.0,
                    advanced=True,
                    tooltip=(
                        "The LoRA counts alpha / rank. 0: as the file says, or its rank where it says nothing; else "
                        "this number, 0 to 4096, for a file whose trainer kept alpha to itself."
                    ),
                ),
                io.Boolean.Input(
                    "allow_partial",
                    default=False,
                    advanced=True,
                    tooltip=(
                        "Off: a file of which some tensors fit no layer is refused. On: those are left out and named "
                        "in the report."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(),
                io.String.Output(
                    display_name="report",
                    tooltip=("How many layers the LoRA has, how many names were changed, and where alpha comes from."),
                ),
            ],
        )

    @classmethod
    async def validate_inputs(cls, file: str | None = None, alpha: float | None = None) -> bool:
        check_ranges(alpha=(alpha, 0.0, MOST_ALPHA))
        if file is not None:  # else it comes through a wire
            # The header; numbers are looked at when it is loaded.
            await asyncio.to_thread(lambda: check_lora(_path(file), given_alpha=alpha != 0))
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, **others) -> tuple[int, int] | float:
        return fingerprint(None if file is None else _path(file))

    @classmethod
    def execute(cls, model, file, strength, alpha, allow_partial) -> io.NodeOutput:
        patched, converted = attach(model, read_lora(_path(file), bool(alpha)), strength, alpha or None, allow_partial)
        return io.NodeOutput(patched, converted.summary())


def _path(file: str) -> Path:
    """Raises ValueError where models/loras has no such file."""
    return demo_model.WEIGHTS / demo_model.ANCHOR_LORA_FILE if file == BUNDLED else model_file(FOLDER, file)
