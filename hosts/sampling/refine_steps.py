"""Move chunks by one solver step each and join them afterwards, by randomized blending of x_{t-1}.

Source: StreamingT2V (arXiv 2403.14773, section 4.3, as its text has it) and its public enhancer for I2VGen-XL, there
after a DDIM step. Here any solver that begins every step anew can move the chunks: core's own functions run for two
noise levels at a time, Longreel's DDIM for models in alpha space. Solvers that look back on earlier steps are refused:
what they remember would belong to another chunk in every overlap. Noise that a solver adds is drawn once per step for
the whole video, and each chunk takes its frames of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import trange

import comfy.k_diffusion.sampling
import comfy.samplers
from comfy.context_windows import IndexListContextWindow, WindowingState

from ...engine.plan.timeline import Segment
from ...engine.sampling import alpha_space
from ...engine.to_device import sent
from ..attention.noise_level import read_once
from ..types import BaseModel, CalcCondBatch, CondLists, ContextWindow, ModelOptions, Sampler
from ..windows.latent_blend import FRAME_AXIS
from ..windows.refine_chunks import RefinedChunks
from .alpha_space import (
    AlphaSpaceSampler,
    MaskedPrediction,
    StepNoise,
    guidance_of_step,
    require_alpha_space,
    timesteps_of,
)

QUIET = ("euler", "euler_cfg_pp", "heun", "dpm_2")  # core's solvers of one step; "ddim" is its name for euler, too
NOISY = ("euler_ancestral", "euler_ancestral_cfg_pp", "dpm_2_ancestral", "dpmpp_2s_ancestral")
PREFIX = "sample_"  # of core's functions


class ChunkWindow(IndexListContextWindow):
    """This is one chunk with its lead frame, which is a frame like the others here: it moves as the chunk does, so that
    it is as noisy as the chunk at the second evaluation of a step.
    """

    def __init__(self, number: int, segment: Segment, frames: list[int], total_frames: int):
        super().__init__(frames, dim=FRAME_AXIS, total_frames=total_frames)
        self.number, self.segment = number, segment

    def get_tensor(self, full, device: torch.device | None = None, dim=None, retain_index_list=()):
        return full if dim == 0 else super().get_tensor(full, device, dim, retain_index_list)  # 0: rows of the batch


@dataclass
class ChunkState(WindowingState):
    """This is what core slices a window from; the chunk comes as it is."""

    chunk: torch.Tensor | None = None

    def slice_for_window(self, window: ContextWindow, retain_index_list, device: torch.device | None = None):
        return [self.chunk], [0]


class SteppedChunks(RefinedChunks):
    """Serve a sampler that works on one chunk at a time, named by `take_up`."""

    in_order = "blend step, which moves one chunk after the other"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.causal_window_fix = False  # the lead frame is part of the chunk
        self.video: torch.Tensor | None = None
        self.window: ChunkWindow | None = None

    def should_use_context(
        self,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ) -> bool:
        return len(self.timeline.segments) > 1 or self.strengths != [1.0]

    def weights_at(self, step: int) -> list[torch.Tensor]:
        """Return [length] of 0 or 1 per chunk: which of its frames are kept after this step."""
        self.evaluation = step
        return self._weights(self.timeline.segments)

    def take_up(self, number: int, video: torch.Tensor) -> list[int]:
        """Set the chunk that the sampler shows from now on, and return the frames of `video` that it consists of."""
        segment = self.timeline.segments[number]
        frames = list(range(segment.start_frame, segment.end_frame))
        if self.lead_frame and segment.start_frame:
            frames.insert(0, self.pictures.lead_of(segment, self.timeline.take_start(segment)))
        self.video, self.window = video, ChunkWindow(number, segment, frames, video.shape[FRAME_AXIS])
        return frames

    def execute(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ):
        self._model = model
        state = ChunkState([self.video], [None], [None], [None], None, self.dim, chunk=x_in)
        with read_once(timestep, model_options["transformer_options"]):
            self.set_step(timestep, model_options)
            results = self.evaluate_context_windows(
                calc_cond_batch,
                model,
                self.video,
                conds,
                timestep,
                [(self.window.number, self.window)],
                model_options,
                state,
            )
        seen_as = zip(*([out[0] for out in result.sub_conds_out] for result in results), strict=True)
        return [torch.stack(outs).mean(0) if len(outs) > 1 else outs[0] for outs in seen_as]


class StepSampler(comfy.samplers.Sampler):
    """This SAMPLER runs another one chunk by chunk, a step at a time, on a model with `SteppedChunks`.

    Raises ValueError, naming the sampler, for one that does not begin every step anew.
    """

    def __init__(self, sampler: comfy.samplers.Sampler):
        self.sampler, self.solver = sampler, solver_of(sampler)

    def sample(
        self,
        model_wrap,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        """Sample as a guider asks. noise, latent_image: [B, C, F, H, W]; sigmas: [N + 1], descending."""
        handler: SteppedChunks = extra_args["model_options"]["context_handler"]
        options = extra_args["model_options"]["transformer_options"]
        solver = self.solver(self.sampler, model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask)
        x, steps = solver.x, len(sigmas) - 1
        for step in trange(steps, disable=disable_pbar):
            moved, clean = torch.empty_like(x), torch.empty_like(x)
            for number, weight in enumerate(handler.weights_at(step)):
                frames = handler.take_up(number, x)
                with handler.caches.of(number, options, model_wrap.inner_model.model_sampling):
                    frames_there = places_on(x, frames)
                    chunk, video = solver.move(x[:, :, frames_there], frames_there, step)
                lead = len(frames) - len(weight)
                kept = [lead + place for place in weight.nonzero().flatten().tolist()]
                here, kept = (places_on(x, places) for places in ([frames[place] for place in kept], kept))
                moved[:, :, here], clean[:, :, here] = chunk[:, :, kept], video[:, :, kept]
            if callback is not None:
                callback(step, clean, x, steps)
            x = moved
        return solver.finish(x)


def places_on(x: torch.Tensor, places: list[int]) -> torch.Tensor:
    """Return numbers of frames as an index on the device of x, where a list would have the host wait each time."""
    return sent(torch.tensor(places, dtype=torch.int64), x, torch.int64)


class OncePerStep:
    """Draw the noise [B, C, F, H, W] of the whole video when the first chunk asks for it in a step."""

    def __init__(self, draw: Callable[[int], torch.Tensor]):
        self.draw, self.step, self.noise = draw, None, None

    def __call__(self, step: int) -> torch.Tensor:
        if step != self.step:
            self.step, self.noise = step, self.draw(step)
        return self.noise


class CoreSolver:
    """This is one of core's samplers. `x` is the noised video on its scale."""

    def __init__(
        self,
        sampler: comfy.samplers.KSAMPLER,
        model_wrap,
        sigmas: torch.Tensor,
        extra_args,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        denoise_mask: torch.Tensor | None,
    ):
        self.sampler, self.model_wrap, self.sigmas, self.extra_args = sampler, model_wrap, sigmas, extra_args
        self.noise, self.latent_image, self.denoise_mask = noise, latent_image, denoise_mask
        seed = extra_args["seed"]
        if sampler.inpaint_options.get("random"):  # core's ddim noises what a mask keeps with other noise
            generator = torch.manual_seed(seed + 1)
            self.noise = torch.randn(noise.shape, generator=generator, device="cpu").to(noise)
        self.model_sampling = model_wrap.inner_model.model_sampling
        from_noise_alone = sampler.max_denoise(model_wrap, sigmas)
        self.x = self.model_sampling.noise_scaling(sigmas[0], noise, latent_image, from_noise_alone)
        draw = comfy.k_diffusion.sampling.default_noise_sampler(self.x, seed=seed)
        self.fresh = OncePerStep(lambda step: draw(sigmas[step], sigmas[step + 1]))

    def move(self, x: torch.Tensor, frames: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return those frames x of the video, which are at the level of `step`, at the next one, and clean as
        predicted.
        """
        model = comfy.samplers.KSamplerX0Inpaint(self.model_wrap, self.sigmas)
        model.latent_image, model.noise = self.latent_image[:, :, frames], self.noise[:, :, frames]
        mask = None if self.denoise_mask is None else self.denoise_mask[:, :, frames]
        options = dict(self.sampler.extra_options)
        if name_of(self.sampler) in NOISY:
            options["noise_sampler"] = lambda sigma, sigma_next: self.fresh(step)[:, :, frames]
        reported = {}
        x = self.sampler.sampler_function(
            model,
            x,
            self.sigmas[step : step + 2].clone(),  # some of core's samplers write into them
            callback=reported.update,
            disable=True,
            extra_args={**self.extra_args, "denoise_mask": mask},
            **options,
        )
        return x, reported["denoised"]

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        return self.model_sampling.inverse_noise_scaling(self.sigmas[-1], x)


class AlphaSpaceSolver:
    """This is the DDIM of Longreel Alpha Space Sampler. `x` is the noised video on the model's own scale."""

    def __init__(
        self,
        sampler: AlphaSpaceSampler,
        model_wrap,
        sigmas: torch.Tensor,
        extra_args,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        denoise_mask: torch.Tensor | None,
    ):
        require_alpha_space(model_wrap.inner_model)
        self.sampler, self.model_wrap, self.sigmas, self.extra_args = sampler, model_wrap, sigmas, extra_args
        self.noise, self.latent_image, self.denoise_mask = noise, latent_image, denoise_mask
        levels = sigmas.tolist()
        self.alphas = [alpha_space.alpha_of_sigma(sigma) for sigma in levels]
        self.timesteps = timesteps_of(model_wrap, sampler.guidance, sigmas)
        self.fresh = OncePerStep(StepNoise(extra_args.get("seed"), levels, noise))
        self.x = alpha_space.add_noise(latent_image, noise, self.alphas[0])

    def move(self, x: torch.Tensor, frames: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return those frames x of the video, which are at the level of `step`, at the next one, and clean as
        predicted.
        """
        mask = None if self.denoise_mask is None else self.denoise_mask[:, :, frames]
        predict = MaskedPrediction(
            self.model_wrap,
            self.sigmas,
            self.extra_args,
            self.noise[:, :, frames],
            self.latent_image[:, :, frames],
            mask,
        )
        sigma, reported = self.sigmas[step], []
        with guidance_of_step(self.model_wrap, self.sampler.guidance, self.timesteps, step, len(self.sigmas) - 1):
            x = alpha_space.sample(
                x,
                self.alphas[step : step + 2],
                [sigma],
                predict,
                lambda _: self.fresh(step)[:, :, frames],
                self.sampler.solver,
                self.sampler.eta,
                lambda _, video, before: reported.append(video),
            )
        return x, reported[0]

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.alphas[-1]


def name_of(sampler: Sampler) -> str:
    """Return what the user chose: core's name of a sampler, or the solver of Longreel Alpha Space Sampler."""
    if isinstance(sampler, AlphaSpaceSampler):
        return sampler.solver
    if isinstance(sampler, comfy.samplers.KSAMPLER):
        return sampler.sampler_function.__name__.removeprefix(PREFIX)
    return type(sampler).__name__


def solver_of(sampler: Sampler) -> type[CoreSolver] | type[AlphaSpaceSolver]:
    """Return the solver of a sampler. Raises ValueError for one that does not begin every step anew."""
    name = name_of(sampler)
    if isinstance(sampler, AlphaSpaceSampler) and name == "ddim":
        return AlphaSpaceSolver
    known = isinstance(sampler, comfy.samplers.KSAMPLER) and name in QUIET + NOISY
    ours = known and sampler.sampler_function is getattr(comfy.k_diffusion.sampling, PREFIX + name)
    if ours and not sampler.extra_options.get("s_churn"):
        return CoreSolver
    churn = f" with s_churn {sampler.extra_options['s_churn']:g}" if ours else ""
    raise ValueError(
        f"blend step moves every chunk by 1 step of its own, and {name}{churn} is not known to begin each "
        f"step anew from 1 noise for all chunks; use {', '.join(QUIET + NOISY)}, ddim, the ddim of "
        f"Longreel Alpha Space Sampler, or blend x0"
    )
