"""A MODEL as the student of training/anchor_trainer.py: it is told which frames the anchor stands on, and has
gradients.

What it computes is what a clean anchor has core's own network compute at one step of sampling (hosts/anchor/run.py,
with the family's frame-time adapter). ComfyUI runs nodes in inference mode, whose tensors have no gradients, so the
student's network is read from its file again: the model that it was made from, and LoRAs on it, do not change and are
not seen.

Each block of Wan and HunyuanVideo keeps its input alone and is recomputed in the backward pass; CogVideoX keeps all
that gradients need. Which numbers are drawn, losses, steps and files are the trainer's (training/).
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch

import comfy.model_management
import comfy.sd
import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...engine.sampling.denoising import VPrediction
from .. import demo_model, keys
from ..attention import patching
from ..families import facts_of, family_of
from ..families.modules import replaced
from ..training.encoder import MASK, POOLED, TEXT, TOKENS, TTTEncoder
from ..training.gradients import recomputed, training
from ..training.network import NetworkStudent
from ..training.weights_digest import digest
from ..types import Executor
from .frame import FRAME_TIME_ADAPTERS

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SETTINGS = {
    "demo": bool,
    "diffusion_model": str,
    "vae": str,
    "text_encoder": str,
    "text_encoder_type": str,
    "dtype": str,
}


class AnchorStudent(NetworkStudent):
    """training/anchor_student.AnchorStudent.

    Raises ValueError for a family that knows times of frames without training or cannot be told them, for a model with
    features of this pack on it, and as NetworkStudent does.
    """

    def __init__(self, model: ModelPatcher, dtype: torch.dtype = torch.bfloat16):
        """Read the network of `model` again, without its LoRAs; it computes in `dtype`."""
        _check_trainable(model)
        self.adapter = FRAME_TIME_ADAPTERS[family_of(model).NAME]
        super().__init__(model, dtype, self._prepare)
        self.adapter.refuse(self.network)
        self.is_anchor: torch.Tensor | None = None  # [B, F] while the network is evaluated
        v_prediction = isinstance(self.objective, VPrediction)
        self.top_level = float(len(self.objective.alphas)) if v_prediction else 1.0
        self.identity = f"{self.facts.family} {digest(self.network.state_dict())}"

    def _prepare(self) -> None:
        self.patcher.patches = {}
        self.patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, keys.ANCHOR_TRAINING, self._give_frame_times)

    def predict(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        is_anchor: torch.Tensor,
    ) -> torch.Tensor:
        """Return what the network says of a batch, float32 like `noised`, for the objective's target.

        noised [B, C, F, H, W] with clean anchors, levels [B] of the objective, conditioning [B, 1, ...] as
        hosts/training/encoder.py encodes prompts, is_anchor [B, F]: 1 where a frame is an anchor, else 0.
        """
        lengths = conditioning[TOKENS][:, 0]
        alike = bool((lengths == lengths[:1]).all())
        if self.adapter.FRAMES_ALIKE:
            alike = alike and bool((is_anchor == is_anchor[:1]).all())
        if alike:
            return self._predict(noised, levels, conditioning, is_anchor)
        rows = [slice(row, row + 1) for row in range(len(noised))]
        return torch.cat(
            [
                self._predict(
                    noised[row], levels[row], {name: part[row] for name, part in conditioning.items()}, is_anchor[row]
                )
                for row in rows
            ]
        )

    def _predict(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        is_anchor: torch.Tensor,
    ) -> torch.Tensor:
        tokens = int(conditioning[TOKENS][0, 0])
        prompts = {"cross_attn": conditioning[TEXT][:, 0, :tokens].to(self.device)}
        if MASK in conditioning:
            prompts[MASK] = conditioning[MASK][:, 0, :tokens].to(self.device)
        if POOLED in conditioning:
            prompts[POOLED] = conditioning[POOLED][:, 0].to(self.device)
        self.is_anchor = is_anchor.to(self.device)
        try:
            with training(), ExitStack() as meanwhile:
                for block in self.adapter.recomputed_blocks(self.network):
                    meanwhile.enter_context(
                        replaced(block, recomputed(block.forward, self.adapter.FAMILY.OVERWRITES_INPUTS))
                    )
                return self.evaluate(self.leaf(noised), levels, prompts, {})
        finally:
            self.is_anchor = None

    def _give_frame_times(self, executor: Executor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs):
        """DIFFUSION_MODEL: the network is given the time of each frame as in sampling."""
        return self.adapter.evaluate(executor, self.is_anchor.to(x), x, t, *args, **kwargs)


def _check_trainable(model: ModelPatcher) -> None:
    facts, features = facts_of(model), patching.features_of(model.model_options)
    if facts.knows_frame_times:
        raise ValueError(
            f"{facts.family} was trained with a time for every frame and needs no anchor LoRA; use Longreel Anchor "
            f"Frame as it is"
        )
    if features:
        raise ValueError(
            f"{features[0].name} cannot be on a model that is to be trained; wire the model from before that node"
        )


class StepBar:
    """The progress bar of the running node; a cancelled run ends at the next step."""

    def __init__(self, steps: int):
        """Show a run of so many steps."""
        self.bar = comfy.utils.ProgressBar(steps)

    def at(self, done: int) -> None:
        """Show `done` steps. Raises core's exception where the user has cancelled."""
        self.bar.update_absolute(done)
        self.check()

    @staticmethod
    def check() -> None:
        """Raise core's exception where the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()


def build(settings: Mapping[str, Any]) -> tuple[AnchorStudent, TTTEncoder]:
    """Return (student, encoder) for the table [model] of a config file.

    Either demo = true, or the files diffusion_model, vae and text_encoder with text_encoder_type ("wan", "cogvideox",
    "hunyuan_video"); dtype "bfloat16" or "float32". Raises ValueError for keys that are unknown, missing or of another
    kind.
    """
    for name, value in settings.items():
        if name not in SETTINGS or type(value) is not SETTINGS[name]:
            raise ValueError(f"model.{name} is {value!r}, and {len(SETTINGS)} keys are known: {', '.join(SETTINGS)}")
    dtype = settings.get("dtype", "bfloat16")
    if dtype not in DTYPES:
        raise ValueError(f"model.dtype {dtype!r} is not known; use {' or '.join(DTYPES)}")
    model, clip, vae = demo_model.load_demo_model() if settings.get("demo") else _load_files(settings)
    return AnchorStudent(model, DTYPES[dtype]), TTTEncoder(model, clip, vae)


def _load_files(settings: Mapping[str, Any]) -> tuple[ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    wanted = ("diffusion_model", "vae", "text_encoder", "text_encoder_type")
    missing = [name for name in wanted if name not in settings]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(wanted)} files of a model are missing in [model], first {missing[0]}; name "
            f"them, or write demo = true"
        )
    kind = getattr(comfy.sd.CLIPType, settings["text_encoder_type"].upper(), None)
    if kind is None:
        raise ValueError(
            f"model.text_encoder_type {settings['text_encoder_type']!r} is not known to ComfyUI; use wan, cogvideox or "
            f"hunyuan_video"
        )
    model = comfy.sd.load_diffusion_model(settings["diffusion_model"])
    clip = comfy.sd.load_clip(settings["text_encoder"].split(","), clip_type=kind)
    weights, metadata = comfy.utils.load_torch_file(settings["vae"], return_metadata=True)
    return model, clip, comfy.sd.VAE(sd=weights, metadata=metadata)
