"""A MODEL as the student of training/anchor_trainer.py: it is told which frames the anchor stands on, and has gradients.

What it computes is what a clean anchor has core's own network compute at one step of sampling (hosts/anchor/run.py, with
the family's frame-time adapter). ComfyUI runs nodes in inference mode, whose tensors have no gradients, so the student's
network is read from its file again: the model that it was made from, and LoRAs on it, do not change and are not seen.

Each block of Wan and HunyuanVideo keeps its input alone and is recomputed in the backward pass; CogVideoX keeps all that
gradients need. Which numbers are drawn, losses, steps and files are the trainer's (training/).
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch

import comfy.model_management
import comfy.sd
import comfy.utils
from comfy.patcher_extension import WrappersMP

from ...engine.sampling.denoising import VPrediction
from .. import demo_model
from ..attention import patching
from ..families import facts_of, family_of
from ..training.encoder import MASK, POOLED, TEXT, TOKENS, TTTEncoder
from ..training.gradients import recomputed, training
from ..training.weights_digest import digest
from ..ttt.segments import replaced
from ..ttt.student import RawSampling, load_for_good, objective_of
from . import hunyuan_video as anchor_hunyuan_video
from . import wan as anchor_wan
from .frame import FRAME_TIME_ADAPTERS

KEY = "longreel_anchor_training"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SETTINGS = {
    "demo": bool,
    "diffusion_model": str,
    "vae": str,
    "text_encoder": str,
    "text_encoder_type": str,
    "dtype": str,
}


class AnchorStudent:
    """training/anchor_student.AnchorStudent. dtype: in which the network computes.

    Raises ValueError for a family that knows times of frames without training or cannot be told them, for a model with
    features of this pack on it, and for a loader that cannot load it again.
    """

    def __init__(self, model, dtype: torch.dtype = torch.bfloat16):
        self.facts, self.device = facts_of(model), model.load_device
        if self.facts.knows_frame_times:
            raise ValueError(
                f"{self.facts.family} was trained with a time for every frame and needs no anchor LoRA; use Longreel "
                f"Anchor Frame as it is"
            )
        features = patching.features_of(model.model_options)
        if features:
            raise ValueError(
                f"{features[0].name} cannot be on a model that is to be trained; wire the model from before that node"
            )
        if model.cached_patcher_init is None:
            raise ValueError(
                "ComfyUI cannot load this model a second time, and training works on a copy of its own; use Load Diffusion "
                "Model"
            )
        self.adapter = FRAME_TIME_ADAPTERS[family_of(model)]
        with torch.inference_mode(False):
            self.patcher = model.clone(disable_dynamic=True, force_deepcopy=True)
            self.patcher.patches = {}
            self.patcher.set_model_compute_dtype(dtype)
            sampling = self.patcher.get_model_object("model_sampling")
            self.objective = objective_of(sampling)
            self.patcher.add_object_patch("model_sampling", RawSampling(sampling))
            self.patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, self._show)
            load_for_good(self.patcher)
            self.patcher.pre_run()
            self.network = self.patcher.model.diffusion_model.requires_grad_(False)
        self.adapter.refuse(self.network)
        self.overwrites = self.adapter is anchor_hunyuan_video  # its blocks write into what gradients need
        self.held: torch.Tensor | None = None  # [B, F] while the network is evaluated
        v_prediction = isinstance(self.objective, VPrediction)
        self.top_level = float(len(self.objective.alphas)) if v_prediction else 1.0
        self.identity = f"{self.facts.family} {digest(self.network.state_dict())}"

    def predict(
        self, noised: torch.Tensor, levels: torch.Tensor, conditioning: Mapping[str, torch.Tensor], held: torch.Tensor
    ) -> torch.Tensor:
        """noised [B, C, F, H, W] with clean anchors, levels [B] of the objective, conditioning [B, 1, ...] as
        hosts/training/encoder.py encodes prompts, held [B, F] 0 or 1 -> float32 like noised, for the objective's target."""
        lengths = conditioning[TOKENS][:, 0]
        alike = bool((lengths == lengths[:1]).all())
        if self.adapter is anchor_hunyuan_video:  # whose adapter takes the same frames in all rows
            alike = alike and bool((held == held[:1]).all())
        if alike:
            return self._predict(noised, levels, conditioning, held)
        rows = [slice(row, row + 1) for row in range(len(noised))]
        return torch.cat(
            [
                self._predict(
                    noised[row], levels[row], {name: part[row] for name, part in conditioning.items()}, held[row]
                )
                for row in rows
            ]
        )

    def _predict(self, noised, levels, conditioning, held) -> torch.Tensor:
        tokens = int(conditioning[TOKENS][0, 0])
        told = {"cross_attn": conditioning[TEXT][:, 0, :tokens].to(self.device)}
        if MASK in conditioning:
            told[MASK] = conditioning[MASK][:, 0, :tokens].to(self.device)
        if POOLED in conditioning:
            told[POOLED] = conditioning[POOLED][:, 0].to(self.device)
        # The latent must require gradients for the first block's input to: what is computed again needs one that does.
        noised = noised.detach().to(self.device).requires_grad_(torch.is_grad_enabled())
        sigmas = self._sigmas(levels.to(self.device))
        model = self.patcher.model
        conds = model.extra_conds(noise=noised.detach(), device=self.device, **told)
        given = {
            name: cond.process_cond(batch_size=len(noised), device=self.device, area=None).cond
            for name, cond in conds.items()
        }
        options = {
            **self.patcher.model_options["transformer_options"],
            "wrappers": self.patcher.wrappers,
            "cond_or_uncond": [0],
            "sigmas": sigmas,
        }
        self.held = held.to(self.device)
        try:
            with training(), ExitStack() as meanwhile:
                for block in self._recomputed():
                    meanwhile.enter_context(replaced(block, recomputed(block.forward, self.overwrites)))
                return model.apply_model(noised, sigmas, transformer_options=options, **given)
        finally:
            self.held = None

    def _recomputed(self) -> list[torch.nn.Module]:
        """CogVideoX's adapter changes what is inside its blocks, for as long as a forward lasts."""
        if self.adapter is anchor_wan:
            return list(self.network.blocks)
        return [*self.network.double_blocks, *self.network.single_blocks] if self.overwrites else []

    def _show(self, executor, x, t, *args, **kwargs):
        """DIFFUSION_MODEL: the network is told the time of each frame as in sampling."""
        return self.adapter.evaluate(executor, self.held.to(x), x, t, *args, **kwargs)

    def _sigmas(self, levels: torch.Tensor) -> torch.Tensor:
        """[B] levels of the objective -> [B] core's sigmas."""
        if isinstance(self.objective, VPrediction):
            return self.patcher.get_model_object("model_sampling").sigmas.to(levels.device)[levels.long()]
        return levels


class StepBar:
    """The progress bar of the running node; a cancelled run ends at the next step."""

    def __init__(self, steps: int):
        self.bar = comfy.utils.ProgressBar(steps)

    def at(self, done: int) -> None:
        """Raises core's exception where the user has cancelled."""
        self.bar.update_absolute(done)
        self.check()

    @staticmethod
    def check() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()


def build(settings: Mapping[str, Any]) -> tuple[AnchorStudent, TTTEncoder]:
    """For the table [model] of a config file: demo = true, or the files diffusion_model, vae and text_encoder with
    text_encoder_type ("wan", "cogvideox", "hunyuan_video"); dtype "bfloat16" or "float32".

    Raises ValueError for keys that are unknown, missing or of another kind.
    """
    for name, value in settings.items():
        if name not in SETTINGS or type(value) is not SETTINGS[name]:
            raise ValueError(f"model.{name} is {value!r}, and {len(SETTINGS)} keys are known: {', '.join(SETTINGS)}")
    dtype = settings.get("dtype", "bfloat16")
    if dtype not in DTYPES:
        raise ValueError(f"model.dtype {dtype!r} is not known; use {' or '.join(DTYPES)}")
    if settings.get("demo"):
        model, clip, vae = demo_model.load_demo_model()
    else:
        wanted = ("diffusion_model", "vae", "text_encoder", "text_encoder_type")
        missing = [name for name in wanted if name not in settings]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(wanted)} files of a model are missing in [model], first "
                f"{missing[0]}; name them, or write demo = true"
            )
        kind = getattr(comfy.sd.CLIPType, settings["text_encoder_type"].upper(), None)
        if kind is None:
            raise ValueError(
                f"model.text_encoder_type {settings['text_encoder_type']!r} is not known to ComfyUI; use wan, cogvideox "
                f"or hunyuan_video"
            )
        model = comfy.sd.load_diffusion_model(settings["diffusion_model"])
        clip = comfy.sd.load_clip(settings["text_encoder"].split(","), clip_type=kind)
        weights, metadata = comfy.utils.load_torch_file(settings["vae"], return_metadata=True)
        vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    return AnchorStudent(model, DTYPES[dtype]), TTTEncoder(model, clip, vae)
