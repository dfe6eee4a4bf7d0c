"""hosts/windows/finite.py: sampling stops at the first step whose numbers are none, and nothing of it is kept."""

import pytest
import torch

import comfy.ldm.wan.model

from longreel.engine.runs.folder import open_run
from longreel.hosts.sampling import joint
from longreel.hosts.windows.finite import check_finite
from tests.hosts.rollout_cases import rolled, sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

STEPS = 3


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Attention that gives NaN from its second step on, as an overflow does; `mended()` takes it back."""
    working, sigmas = comfy.ldm.wan.model.optimized_attention, set()

    def attend(*args, **kwargs):
        sigmas.add(float(kwargs["transformer_options"]["sigmas"][0]))
        return working(*args, **kwargs) * (1.0 if len(sigmas) < 2 else float("nan"))

    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", attend)
    return lambda: monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", working)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_the_place_and_the_count_are_said(number: float):
    latent = torch.zeros(1, 4, 2, 3, 3)
    check_finite(latent, "step 1/2")
    latent[0, 0, 0, 0] = number
    with pytest.raises(ValueError, match="^step 2/2 came out with 3 of 72 numbers NaN or infinite.*attention.*LoRA"):
        check_finite(latent, "step 2/2")


def test_a_rollout_stops_at_the_step_and_keeps_nothing_of_the_chunk(tiny, tmp_path, broken):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    with (
        open_run(tmp_path / "run") as run,
        pytest.raises(ValueError, match=r"^shot 1/2, chunk 1/\d, step 2/3 came out"),
    ):
        rolled(loaded, timeline, steps=STEPS, run=run)
    assert not list((tmp_path / "run").glob("chunk_*"))
    broken()  # mended, as by a restart with another attention: the same run goes on
    with open_run(tmp_path / "run") as run:
        samples, report = rolled(loaded, timeline, steps=STEPS, run=run)
        run.finish(False)
    assert torch.isfinite(samples).all() and "reused" not in report


def test_joint_sampling_stops_at_the_step(tiny, broken):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    settings = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, STEPS), sampler_for(loaded.model), 3.0, 7)
    with torch.inference_mode(), pytest.raises(ValueError, match="^step 2/3 came out with"):
        joint.sample_timeline(loaded.model, timeline, {"samples": empty(timeline)}, settings, blend="triangle")
