"""hosts/sampling/alpha_space.py through ComfyUI's own loaders, guiders and sampler nodes, on a tiny random
CogVideoX."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

import comfy.context_windows
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
from comfy_extras.nodes_custom_sampler import BasicGuider, DualCFGGuider, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from comfy_extras.nodes_void import VOID_DDIM

from longreel.engine.sampling import alpha_space
from longreel.hosts.sampling.alpha_space import GUIDANCE_MODES, AlphaSpaceSampler, StepNoise
from tests import tiny_sampling

FRAMES = 5


class Cog(NamedTuple):
    """A loaded CogVideoX, two conditionings, and a latent video of its shape."""

    model: Any
    positive: list
    negative: list
    latent: torch.Tensor  # [1, C, F, H, W]
    noise: torch.Tensor


@pytest.fixture(autouse=True)
def as_in_the_server() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["cogvideox10", "cogvideox15"])
def any_cog(request, tiny, tiny_models) -> Cog:
    return make_cog(request.param, tiny, tiny_models)


@pytest.fixture(scope="module")
def cog(tiny, tiny_models) -> Cog:
    return make_cog("cogvideox10", tiny, tiny_models)


def make_cog(name: str, tiny, tiny_models) -> Cog:
    model, clip, _ = tiny(name)
    latent, noise = torch.randn(2, *tiny_models[name].latent_shape(FRAMES), generator=torch.Generator().manual_seed(1))
    return Cog(model, tiny_sampling.encode(clip, "a red fox runs"), tiny_sampling.encode(clip, "blurry"), latent, noise)


def sigmas_of(model, steps: int = 4, scheduler: str = "simple") -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def guider_of(cog: Cog, model=None, cfg: float = 3.0) -> comfy.samplers.CFGGuider:
    guider = comfy.samplers.CFGGuider(model or cog.model)
    guider.set_conds(cog.positive, cog.negative)
    guider.set_cfg(cfg)
    return guider


def run(
    cog: Cog,
    sampler: Any = None,
    *,
    model=None,
    guider=None,
    noise=None,
    latent=None,
    sigmas=None,
    mask=None,
    callback=None,
    seed: int | None = 7,
) -> torch.Tensor:
    """One run as SamplerCustomAdvanced makes it; an empty latent where none is given."""
    guider = guider or guider_of(cog, model)
    return guider.sample(
        cog.noise.clone() if noise is None else noise,
        torch.zeros_like(cog.latent) if latent is None else latent,
        sampler or AlphaSpaceSampler(),
        sigmas_of(cog.model) if sigmas is None else sigmas,
        denoise_mask=mask, callback=callback, disable_pbar=True, seed=seed)  # fmt: skip


def watched(model, see: Callable[[torch.Tensor, torch.Tensor], None]):
    """A clone whose network shows its input [B, C, F, H, W] and timestep before each evaluation."""
    clone = model.clone()

    def wrapper(executor, x, timestep, *args, **kwargs):
        see(x, timestep)
        return executor(x, timestep, *args, **kwargs)

    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "watch", wrapper)
    return clone


def to_model_scale(cog: Cog, latent: torch.Tensor) -> torch.Tensor:
    return cog.model.model.process_latent_in(latent)


@pytest.mark.parametrize("solver", alpha_space.SOLVERS)
def test_the_network_sees_its_own_scale(any_cog: Cog, solver: str) -> None:
    spreads = []
    model = watched(any_cog.model, lambda x, timestep: spreads.append(float(x.std())))
    out = run(any_cog, AlphaSpaceSampler(solver, eta=1.0), model=model)
    assert out.shape == any_cog.latent.shape
    assert torch.isfinite(out).all()
    assert len(spreads) == 4
    assert min(spreads) > 0.9 and max(spreads) < 2.0


def test_core_s_sampler_would_not_show_that_scale(cog: Cog) -> None:
    """Why this sampler exists; when core changes this, the pack may let go of it."""
    spreads = []
    model = watched(cog.model, lambda x, timestep: spreads.append(float(x.std())))
    run(cog, comfy.samplers.sampler_object("euler"), model=model)
    assert spreads[0] > 1000


def test_deterministic_ddim_agrees_with_core_s_void_sampler(any_cog: Cog) -> None:
    ours = run(any_cog, AlphaSpaceSampler("ddim", eta=0.0))
    torch.testing.assert_close(ours, run(any_cog, VOID_DDIM()), atol=1e-3, rtol=1e-3)


def test_the_host_adds_nothing_to_the_engine_s_loop(cog: Cog) -> None:
    """The same steps, taken by the engine around bare calls of the guider."""
    sigmas, seen = sigmas_of(cog.model), []
    out = run(cog, sigmas=sigmas, callback=lambda step, video, x, total: seen.append((x, video)))
    alphas = [alpha_space.alpha_of_sigma(float(sigma)) for sigma in sigmas]
    noise = StepNoise(7, sigmas.tolist(), cog.noise)
    again = alpha_space.sample(alpha_space.noise_of(alphas[0]) * cog.noise, alphas, range(4),
                               lambda x, alpha, step: seen[step][1], noise)  # fmt: skip
    torch.testing.assert_close(cog.model.model.process_latent_out(again), out)


def test_every_step_is_reported_before_x_moves(cog: Cog) -> None:
    seen = []
    out = run(cog, callback=lambda step, video, x, total: seen.append((step, total, video, x)))
    assert [(step, total) for step, total, _, _ in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert all(video.shape == x.shape == cog.latent.shape for _, _, video, x in seen)
    torch.testing.assert_close(cog.model.model.process_latent_out(seen[-1][2]), out)
    torch.testing.assert_close(seen[0][3], cog.noise, atol=1e-3, rtol=1e-3)


def test_an_interrupt_stops_before_the_next_evaluation(cog: Cog) -> None:
    asked = []
    model = cog.model.clone()

    def count(executor, *args, **kwargs):
        asked.append(len(asked))
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "count", count)

    def stop_in_second_step(step, *_):
        if step == 1:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(cog, model=model, callback=stop_in_second_step)
    assert asked == [0, 1]


@pytest.mark.parametrize("scheduler", list(comfy.samplers.SCHEDULER_NAMES))
@pytest.mark.parametrize("solver", alpha_space.SOLVERS)
def test_every_core_scheduler_can_be_used(cog: Cog, solver: str, scheduler: str) -> None:
    out = run(cog, AlphaSpaceSampler(solver), sigmas=sigmas_of(cog.model, 6, scheduler))
    assert torch.isfinite(out).all()


def test_part_of_the_denoising_starts_from_the_latent(cog: Cog) -> None:
    """As KSampler's denoise below 1: the last sigmas of a longer schedule."""
    first, distances = [], []
    for kept in (2, 5, 8):
        sigmas = sigmas_of(cog.model, 10)[-kept:]
        out = run(cog, latent=cog.latent, sigmas=sigmas,
                  callback=lambda step, video, x, total: first.append(x) if step == 0 else None)  # fmt: skip
        distances.append(float((out - cog.latent).square().mean()))
        alpha = alpha_space.alpha_of_sigma(float(sigmas[0]))
        want = alpha * to_model_scale(cog, cog.latent) + alpha_space.noise_of(alpha) * cog.noise
        torch.testing.assert_close(first[-1], want)
    assert distances == sorted(distances)


def test_masked_frames_stay_and_the_others_move(any_cog: Cog) -> None:
    mask = torch.ones(1, 1, FRAMES, 8, 8)
    mask[:, :, [0, 3]] = 0
    inputs = []
    model = watched(any_cog.model, lambda x, timestep: inputs.append(x[:1].clone()))
    out = run(any_cog, model=model, latent=any_cog.latent, mask=mask)
    torch.testing.assert_close(out[:, :, [0, 3]], any_cog.latent[:, :, [0, 3]], atol=1e-4, rtol=1e-4)
    assert float((out[:, :, [1, 2, 4]] - any_cog.latent[:, :, [1, 2, 4]]).abs().max()) > 0.1
    for x, sigma in zip(inputs, sigmas_of(any_cog.model), strict=False):
        alpha = alpha_space.alpha_of_sigma(float(sigma))
        kept = alpha_space.add_noise(to_model_scale(any_cog, any_cog.latent), any_cog.noise, alpha)
        torch.testing.assert_close(x[:, :, [0, 3]].float(), kept[:, :, [0, 3]], atol=2e-2, rtol=2e-2)


def test_what_the_mask_keeps_changes_what_is_drawn_beside_it(cog: Cog) -> None:
    mask = torch.ones(1, 1, FRAMES, 8, 8)
    mask[:, :, 0] = 0
    one, other = (run(cog, latent=latent, mask=mask) for latent in (cog.latent, -cog.latent))
    assert not torch.allclose(one[:, :, 1:], other[:, :, 1:], atol=1e-3)


def test_a_soft_mask_lies_between_its_ends(cog: Cog) -> None:
    outs = [run(cog, latent=cog.latent, mask=torch.full((1, 1, FRAMES, 8, 8), value)) for value in (0.0, 0.5, 1.0)]
    distances = [float((out - cog.latent).square().mean()) for out in outs]
    assert distances[0] < 1e-6 < distances[1] < distances[2]


def test_differential_diffusion_changes_the_mask_from_step_to_step(cog: Cog) -> None:
    mask = torch.linspace(0, 1, FRAMES).view(1, 1, FRAMES, 1, 1).expand(1, 1, FRAMES, 8, 8)
    model = DifferentialDiffusion.execute(cog.model).args[0]
    assert not torch.allclose(run(cog, latent=cog.latent, mask=mask),
                              run(cog, model=model, latent=cog.latent, mask=mask), atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_the_seed_draws_the_fresh_noise(cog: Cog, seed: int) -> None:
    assert torch.equal(run(cog, seed=seed), run(cog, seed=seed))
    assert not torch.allclose(run(cog, seed=seed), run(cog, seed=1), atol=1e-3)


def test_a_run_without_a_seed_is_seed_zero(cog: Cog) -> None:
    assert torch.equal(run(cog, seed=None), run(cog, seed=0))


def test_nothing_else_in_the_process_moves_the_fresh_noise(cog: Cog) -> None:
    first = run(cog)
    torch.manual_seed(12345)
    assert torch.equal(first, run(cog))


def test_fresh_noise_is_not_the_starting_noise(cog: Cog) -> None:
    """Core draws the starting noise from the same seed; used twice, it would not be fresh."""
    start = torch.randn(cog.latent.shape, generator=torch.manual_seed(7))
    noise = StepNoise(7, [9.0, 3.0, 1.0, 0.0], start)
    for fresh in (noise(0), noise(1)):
        assert abs(float((fresh * start).mean())) < 0.1
        assert float(fresh.std()) == pytest.approx(1, abs=0.1)
    assert not torch.equal(noise(0), noise(1))


def test_no_fresh_noise_without_eta(cog: Cog) -> None:
    for solver in alpha_space.SOLVERS:
        assert torch.equal(
            run(cog, AlphaSpaceSampler(solver, 0.0), seed=1), run(cog, AlphaSpaceSampler(solver, 0.0), seed=2)
        )


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_run_split_over_two_samplers_is_the_same_run(cog: Cog, eta: float) -> None:
    """DDIM has no memory of earlier steps, so handing over the unfinished latent must not show."""
    sigmas = sigmas_of(cog.model, 6)
    whole = run(cog, AlphaSpaceSampler("ddim", eta), sigmas=sigmas)
    half = run(cog, AlphaSpaceSampler("ddim", eta), sigmas=sigmas[:4])
    rest = run(cog, AlphaSpaceSampler("ddim", eta), sigmas=sigmas[3:], latent=half, noise=torch.zeros_like(cog.noise))
    torch.testing.assert_close(rest, whole, atol=1e-3, rtol=1e-3)


def test_a_context_handler_sees_the_whole_latent_once_per_step(cog: Cog) -> None:
    shapes = []
    model = watched(cog.model, lambda x, timestep: shapes.append(tuple(x.shape[1:3])))
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("overlap-linear"),
        context_length=3, context_overlap=1, dim=2, causal_window_fix=False)  # fmt: skip
    seen = []
    out = run(cog, model=model, callback=lambda step, video, x, total: seen.append(video.shape))
    assert shapes == [(16, 3)] * 8  # two windows in each of four steps, both prompts in one pass
    assert seen == [cog.latent.shape] * 4
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, run(cog), atol=1e-3)


def test_one_window_over_everything_changes_nothing(cog: Cog) -> None:
    model = cog.model.clone()
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("flat"),
        context_length=FRAMES, context_overlap=0, dim=2)  # fmt: skip
    assert torch.equal(run(cog, model=model), run(cog))


def test_core_s_sampler_node_gives_both_its_latents(cog: Cog) -> None:
    latent = {"samples": torch.zeros_like(cog.latent)}
    noise = RandomNoise.execute(7).args[0]
    out, denoised = SamplerCustomAdvanced.execute(
        noise, guider_of(cog), AlphaSpaceSampler(), sigmas_of(cog.model), latent
    ).args
    assert out["samples"].shape == cog.latent.shape
    torch.testing.assert_close(out["samples"], denoised["samples"], atol=1e-4, rtol=1e-4)


def test_a_model_of_another_kind_is_refused_by_name(tiny, tiny_models, cog: Cog) -> None:
    model, clip, _ = tiny("wan21")
    latent = torch.zeros(tiny_models["wan21"].latent_shape(FRAMES))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_sampling.encode(clip, "a"), tiny_sampling.encode(clip, "b"))
    with pytest.raises(ValueError, match=r"V_PREDICTION_DDPM \(CogVideoX\), but WAN21 is of type CONST; use"):
        guider.sample(
            torch.randn_like(latent), latent, AlphaSpaceSampler(), sigmas_of(model), seed=1, disable_pbar=True
        )


def test_sigmas_that_rise_are_refused(cog: Cog) -> None:
    with pytest.raises(ValueError, match="sort the sigmas"):
        run(cog, sigmas=sigmas_of(cog.model).flip(0))


@pytest.mark.parametrize("mode", GUIDANCE_MODES)
def test_each_step_is_guided_as_the_mode_says(cog: Cog, mode: str) -> None:
    scales = []
    model = cog.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: scales.append(args["cond_scale"]) or args["denoised"])
    guider = guider_of(cog, model, cfg=6.0)
    sigmas = sigmas_of(model)
    run(cog, AlphaSpaceSampler(guidance=mode), guider=guider)
    timesteps = [float(model.get_model_object("model_sampling").timestep(sigma)) for sigma in sigmas[:-1]]
    want = {
        "off": [6.0] * 4,
        "published": [alpha_space.dynamic_guidance(6.0, timestep, 4) for timestep in timesteps],
        "rising": [alpha_space.rising_guidance(6.0, step, 4) for step in range(4)],
    }
    assert scales == pytest.approx(want[mode])
    assert guider.cfg == 6.0


def test_the_guider_gets_its_cfg_back_when_a_run_fails(cog: Cog) -> None:
    def fail(x, timestep):
        raise RuntimeError("out of luck")

    guider = guider_of(cog, watched(cog.model, fail), cfg=6.0)
    with pytest.raises(RuntimeError, match="out of luck"):
        run(cog, AlphaSpaceSampler(guidance="rising"), guider=guider)
    assert guider.cfg == 6.0


def test_dynamic_guidance_needs_both_prompts(cog: Cog) -> None:
    guider = BasicGuider.execute(cog.model, cog.positive).args[0]
    assert torch.isfinite(run(cog, guider=guider)).all()
    with pytest.raises(ValueError, match="needs 2 conditionings, positive and negative, but Guider_Basic has 1"):
        run(cog, AlphaSpaceSampler(guidance="published"), guider=guider)


def test_dynamic_guidance_needs_one_cfg(cog: Cog) -> None:
    guider = DualCFGGuider.execute(cog.model, cog.positive, cog.positive, cog.negative, 4.0, 3.0, "regular").args[0]
    assert torch.isfinite(run(cog, guider=guider)).all()
    with pytest.raises(ValueError, match="Guider_DualCFG guides in a way of its own"):
        run(cog, AlphaSpaceSampler(guidance="rising"), guider=guider)


def test_an_unknown_guidance_is_refused() -> None:
    with pytest.raises(ValueError, match="'wild' is not one of off, published, rising"):
        AlphaSpaceSampler(guidance="wild")


def test_the_progress_bar_counts_steps_and_can_be_off(cog: Cog, capfd: pytest.CaptureFixture) -> None:
    run(cog)
    assert "4/4" not in capfd.readouterr().err
    guider_of(cog).sample(cog.noise, torch.zeros_like(cog.latent), AlphaSpaceSampler(), sigmas_of(cog.model), seed=1)
    assert "4/4" in capfd.readouterr().err
