"""What every student of core's networks is: a network of its own that is read from its file again, and has gradients.

ComfyUI runs nodes in inference mode, whose tensors have no gradients, and moves weights away when it wants their
memory. So a student's network is a copy that ComfyUI forgets, with a noise schedule that returns what the network
itself says. The noise schedule tells how the family is trained (engine/sampling/denoising.py). What is shown to the
network, and what is learned, is each student's own (hosts/ttt/student.py, hosts/anchor/student.py).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

import comfy.model_management
import comfy.model_sampling
from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher

from ...engine.sampling.denoising import FlowMatching, VPrediction
from ..families import facts_of, refuse_sound


class NetworkStudent:
    """A network of its own, made from a MODEL that stays as it is.

    facts: of the family. device: where it computes. patcher: the copy, `network` its diffusion model, frozen.
    objective: how the family is trained. options: the copy's transformer_options.
    """

    def __init__(self, model: ModelPatcher, dtype: torch.dtype, prepare: Callable[[], None]):
        """Read `model` again; the network computes in `dtype`. `prepare` is called once the copy is there, to be
        loaded.

        Raises ValueError for a loader that cannot load it again, and for noise schedules that are neither flow matching
        nor CogVideoX's.
        """
        if model.cached_patcher_init is None:
            raise ValueError(
                "ComfyUI cannot load this model a second time, and training works on a copy of its own; use Load "
                "Diffusion Model"
            )
        refuse_sound(model, "training")
        self.facts, self.device = facts_of(model), model.load_device
        with torch.inference_mode(False):
            # Reading the file again keeps what another node's run has patched into the loaded weights out of it.
            self.patcher = model.clone(disable_dynamic=True, force_deepcopy=True)
            self.patcher.set_model_compute_dtype(dtype)
            sampling = self.patcher.get_model_object("model_sampling")
            self.objective = objective_of(sampling)
            self.patcher.add_object_patch("model_sampling", RawSampling(sampling))
            self.options = self.patcher.model_options["transformer_options"]
            prepare()
            load_for_good(self.patcher)
            self.patcher.pre_run()
            self.network = self.patcher.model.diffusion_model.requires_grad_(False)

    def leaf(self, noised: torch.Tensor) -> torch.Tensor:
        """Return `noised` on the student's device, detached; it requires gradients where they are recorded.

        It must for the first block's input to: a block that is recomputed needs an input that does.
        """
        return noised.detach().to(self.device).requires_grad_(torch.is_grad_enabled())

    def evaluate(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        prompts: Mapping[str, torch.Tensor],
        conds: Mapping[str, CONDRegular],
    ) -> torch.Tensor:
        """Return what the network says of `noised` [B, C, F, H, W] at `levels` [B] of the objective, float32.

        prompts: what core's extra_conds takes, "cross_attn" [B, T, D] among it. conds: further entries of model_conds.
        """
        model, sigmas = self.patcher.model, self._sigmas(levels.to(self.device))
        prompts = {"pooled_output": None, **prompts}  # an encoder without one says so in a conditioning
        model_conds = {**model.extra_conds(noise=noised.detach(), device=self.device, **prompts), **conds}
        shown = {
            name: cond.process_cond(batch_size=len(noised), device=self.device, area=None).cond
            for name, cond in model_conds.items()
        }
        options = {**self.options, "wrappers": self.patcher.wrappers, "cond_or_uncond": [0], "sigmas": sigmas}
        return model.apply_model(noised, sigmas, transformer_options=options, **shown)

    def _sigmas(self, levels: torch.Tensor) -> torch.Tensor:
        """[B] levels of the objective -> [B] core's sigmas."""
        if isinstance(self.objective, VPrediction):
            return self.patcher.get_model_object("model_sampling").sigmas.to(levels.device)[levels.long()]
        return levels


def make_room(device: torch.device) -> None:
    """Unload whatever else ComfyUI has loaded, such as what has encoded clips: gradients take what there is."""
    if comfy.model_management.current_loaded_models:
        with torch.inference_mode():  # in which those weights were loaded
            comfy.model_management.free_memory(1e30, device)


def load_for_good(patcher: ModelPatcher) -> None:
    """Load all of a model, and let ComfyUI forget it.

    ComfyUI would move the weights away, and LoRAs' share in them back out, when a text encoder wants the memory.
    """
    make_room(patcher.load_device)
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    loaded = comfy.model_management.current_loaded_models
    loaded[:] = [entry for entry in loaded if entry.model is not patcher]


class RawSampling(nn.Module):
    """A model_sampling whose network says what it says, instead of the clean video."""

    def __init__(self, sampling: nn.Module):
        """Wrap core's model_sampling."""
        super().__init__()
        self.sampling, self.sigmas = sampling, sampling.sigmas

    def calculate_input(self, sigma: torch.Tensor, noised: torch.Tensor) -> torch.Tensor:
        """Scale the latent as the wrapped one does."""
        return self.sampling.calculate_input(sigma, noised)

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """Return the wrapped one's timestep of a sigma."""
        return self.sampling.timestep(sigma)

    def calculate_denoised(self, sigma: torch.Tensor, output: torch.Tensor, noised: torch.Tensor) -> torch.Tensor:
        """Return the network's output as it is."""
        return output


def objective_of(sampling: nn.Module) -> FlowMatching | VPrediction:
    """Return how a network with this model_sampling is trained. Raises ValueError for schedules that are not known."""
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION_DDPM):
        return VPrediction((1 + sampling.sigmas.double() ** 2).rsqrt())
    if isinstance(sampling, comfy.model_sampling.CONST):
        # Flux's shift is an exponent (comfy.model_sampling.flux_time_shift); the curve is the same.
        flux = isinstance(sampling, comfy.model_sampling.ModelSamplingFlux)
        return FlowMatching(math.exp(sampling.shift) if flux else sampling.shift)
    raise ValueError(
        f"this model's noise schedule is {type(sampling).__mro__[1].__name__}, and training knows flow matching and "
        f"CogVideoX's alone; remove the node that replaces it"
    )
