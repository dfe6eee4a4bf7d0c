"""Provide a ComfyUI SAMPLER for models that are sampled in alpha space (CogVideoX).

Core's KSAMPLER starts every model from noise * sqrt(1 + sigma^2), which such a model would see as an input of standard
deviation 4500 where it learned 1; core's VOIDSampler starts right but ignores masks, latents and interrupts. This one
keeps x on the model's own scale and honours all of them. The maths is engine/sampling/alpha_space.py.

Whatever a guider does inside one call (guidance, context windows, patches) works unchanged, because the sampler only
ever asks it for the clean video of the whole latent at one sigma. Noise levels arrive and leave as core's sigmas.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm.auto import tqdm

import comfy.model_management
import comfy.model_sampling
import comfy.samplers

from ...engine.sampling import alpha_space
from ...engine.to_device import sent
from ..types import BaseModel, Guider

GUIDANCE_MODES = ("off", "published", "rising")


class AlphaSpaceSampler(comfy.samplers.Sampler):
    """This is a SAMPLER for KSampler-like core nodes.

    solver: one of alpha_space.SOLVERS. eta: 0..1, share of fresh noise per step. guidance: "off" takes the guider's cfg
    as it is; "published" and "rising" let it move between 1 and 1 + cfg (see alpha_space).
    """

    def __init__(self, solver: str = "dpmpp_2m_sde", eta: float = 1.0, guidance: str = "off"):
        if solver not in alpha_space.SOLVERS:
            raise ValueError(f"solver '{solver}' is not one of {', '.join(alpha_space.SOLVERS)}")
        if guidance not in GUIDANCE_MODES:
            raise ValueError(f"dynamic guidance '{guidance}' is not one of {', '.join(GUIDANCE_MODES)}")
        self.solver = solver
        self.eta = eta
        self.guidance = guidance

    def sample(
        self,
        model_wrap,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        """Sample as a guider asks. noise, latent_image: [B, C, F, H, W] in the model's scale; sigmas: [N + 1],
        descending.

        Returns the latent on core's scale (video + sigma * noise) at the last sigma: the video itself where that is 0,
        else what a later sampler with added noise switched off goes on from.
        """
        require_alpha_space(model_wrap.inner_model)
        if latent_image is None:
            latent_image = torch.zeros_like(noise)
        levels = sigmas.tolist()
        alphas = [alpha_space.alpha_of_sigma(sigma) for sigma in levels]
        steps = len(levels) - 1
        fresh_noise = StepNoise(extra_args.get("seed"), levels, noise)
        predict = MaskedPrediction(model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask)
        if self.guidance != "off":
            require_one_cfg(model_wrap, self.guidance)
        timesteps = timesteps_of(model_wrap, self.guidance, sigmas)

        with tqdm(total=steps, disable=disable_pbar) as bar:

            def denoise(x: torch.Tensor, alpha: float, step: int) -> torch.Tensor:
                comfy.model_management.throw_exception_if_processing_interrupted()
                with guidance_of_step(model_wrap, self.guidance, timesteps, step, steps):
                    return predict(x, alpha, sigmas[step])

            def report(step: int, video: torch.Tensor, x: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(step, video, x, steps)

            x = alpha_space.add_noise(latent_image, noise, alphas[0])
            x = alpha_space.sample(x, alphas, range(steps), denoise, fresh_noise, self.solver, self.eta, report)
        return x / alphas[-1]


def require_alpha_space(model: BaseModel) -> None:
    """Raise ValueError, naming the model and how it is sampled, unless it predicts v in alpha space."""
    sampling = model.model_sampling
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION_DDPM):
        return
    how = next(cls.__name__ for cls in type(sampling).__mro__ if "calculate_denoised" in vars(cls))
    raise ValueError(
        f"Longreel Alpha Space Sampler steps models of type V_PREDICTION_DDPM (CogVideoX), but {type(model).__name__} "
        f"is of type {how}; use a core sampler such as euler with it"
    )


class MaskedPrediction:
    """Predict the guider's clean video at one level, with the frames and pixels that the mask protects kept as they
    are.
    """

    def __init__(
        self,
        model_wrap,
        sigmas: torch.Tensor,
        extra_args,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        denoise_mask: torch.Tensor | None,
    ):
        self.model_wrap = model_wrap
        self.sigmas = sigmas
        self.model_options = extra_args.get("model_options", {})
        self.seed = extra_args.get("seed")
        self.noise = noise
        self.latent_image = latent_image
        self.denoise_mask = denoise_mask

    def __call__(self, x: torch.Tensor, alpha: float, sigma: torch.Tensor) -> torch.Tensor:
        """Return the clean video. x: [B, C, F, H, W] at `alpha`; sigma: [], the same level as core writes it."""
        sigma_of_batch = sigma * x.new_ones([x.shape[0]])
        if self.denoise_mask is None:
            return self._predict(x, sigma_of_batch)
        mask = self._mask_at(sigma_of_batch)  # 1 where the model may draw, 0 where the latent stays
        # The network must find the protected part as noisy as the rest, or its timestep would be a lie about it.
        kept = alpha_space.add_noise(self.latent_image, self.noise, alpha)
        video = self._predict(x * mask + kept * (1 - mask), sigma_of_batch)
        return video * mask + self.latent_image * (1 - mask)

    def _predict(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.model_wrap(x, sigma, model_options=self.model_options, seed=self.seed)

    def _mask_at(self, sigma: torch.Tensor) -> torch.Tensor:
        """Fill core's slot for masks that change over the run (Differential Diffusion)."""
        change = self.model_options.get("denoise_mask_function")
        if change is None:
            return self.denoise_mask
        return change(sigma, self.denoise_mask, extra_options={"model": self.model_wrap, "sigmas": self.sigmas})


class StepNoise:
    """Draw the fresh noise of a step on the CPU, from the run's seed and the sigma that the step ends at.

    The same on every device, never the run's starting noise again, and the same draw for the same level when a run is
    split over two samplers. A run without a seed counts as seed 0.
    """

    def __init__(self, seed: int | None, levels: list[float], like: torch.Tensor):
        self.seed = seed or 0
        self.levels = levels
        self.like = like

    def __call__(self, step: int) -> torch.Tensor:
        name = f"longreel alpha space {self.seed} {self.levels[step + 1].hex()}"
        digest = hashlib.sha256(name.encode()).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return sent(torch.randn(self.like.shape, generator=generator, dtype=torch.float32), self.like)


def require_one_cfg(guider: Guider, mode: str) -> None:
    """Raise ValueError unless the guider is guided by one cfg between a positive and a negative conditioning."""
    remedy = "use CFGGuider or set dynamic_guidance to off"
    kind = type(guider)
    if kind.predict_noise is not comfy.samplers.CFGGuider.predict_noise:
        raise ValueError(
            f"dynamic guidance '{mode}' moves the one cfg of a CFGGuider, but {kind.__name__} guides in a "
            f"way of its own; {remedy}"
        )
    if not {"positive", "negative"} <= set(guider.conds):
        raise ValueError(
            f"dynamic guidance '{mode}' needs 2 conditionings, positive and negative, but {kind.__name__} "
            f"has {len(guider.conds)}; {remedy}"
        )


def timesteps_of(guider: Guider, mode: str, sigmas: torch.Tensor) -> list[float]:
    """Return the model's timestep at the begin of every step, read from the device once; none where no mode asks."""
    if mode != "published":
        return []
    return [float(one) for one in guider.inner_model.model_sampling.timestep(sigmas[:-1]).tolist()]


@contextmanager
def guidance_of_step(guider: Guider, mode: str, timesteps: list[float], step: int, steps: int) -> Iterator[None]:
    """Lend the guider the cfg of one step."""
    if mode == "off":
        yield
        return
    cfg = guider.cfg
    if mode == "rising":
        guider.cfg = alpha_space.rising_guidance(cfg, step, steps)
    else:
        guider.cfg = alpha_space.dynamic_guidance(cfg, timesteps[step], steps)
    try:
        yield
    finally:
        guider.cfg = cfg
