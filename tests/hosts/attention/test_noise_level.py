"""hosts/attention/noise_level.py: everybody hears the level of the very evaluation that is under way."""

import pytest
import torch

import comfy.samplers

from longreel.hosts.attention import patching
from longreel.hosts.attention.feature import WHOLE
from longreel.hosts.attention.noise_level import level_of, read_once
from longreel.hosts.sampling.joint import sample_timeline
from longreel.hosts.windows.context_pass import CONTEXT_PASS
from tests.hosts.attention_watcher import Watcher
from tests.hosts.memory.test_short_memory import known
from tests.hosts.rollout_cases import roll, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.sync_cases import with_long_memory
from tests.hosts.windows.test_latent_blend import Recorder, empty, encode, timeline_for

BETWEEN = ("heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "er_sde", "uni_pc", "sa_solver_pece")


def test_a_level_holds_for_its_own_tensor_and_its_own_time():
    now, other, options = torch.tensor([0.5]), torch.tensor([0.25]), {}
    with read_once(now, options) as level:
        now[0] = 2.0  # whoever asks again reads nothing
        assert level == level_of(now, options) == level_of(now, dict(options)) == 0.5
        assert level_of(other, options) == 0.25
        with read_once(other, options) as inner:
            assert inner == level_of(other, options) == 0.25
        assert level_of(now, options) == 0.5
    assert options == {} and level_of(now, options) == 2.0


def test_nothing_stays_behind_an_interrupted_evaluation():
    options = {}
    with pytest.raises(KeyboardInterrupt), read_once(torch.ones(1), options):
        raise KeyboardInterrupt
    assert options == {}


@pytest.mark.parametrize("sampler", BETWEEN)
def test_features_are_told_the_level_of_samplers_that_look_between_their_steps(tiny, sampler):
    loaded, watcher = tiny("wan21"), Watcher(wants=lambda kind, block: False)
    timeline = timeline_for(loaded.model, ("continue",), segment=3)
    recorder = Recorder(patching.attach(loaded.model, watcher))
    sampling = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, 3), comfy.samplers.sampler_object(sampler))
    with torch.inference_mode():
        sample_timeline(recorder.model, timeline, {"samples": empty(timeline)}, sampling, blend="triangle")
    shown = [sigma for _, sigma, *_ in recorder.calls]
    assert len(timeline.segments) > 1 and len(set(shown)) >= 3
    assert [evaluation.sigma for evaluation in watcher.evaluations] == shown


def test_features_are_told_the_level_of_every_chunk_and_of_passes_over_finished_frames(tiny):
    loaded, watcher = tiny("wan21"), Watcher(wants=lambda kind, block: False)
    recorder = Recorder(patching.attach(with_long_memory(known(loaded.model)), watcher))
    roll(loaded, story(loaded.model, ("continue",)), recorder.model, steps=3)
    shown = [sigma for _, sigma, *_ in recorder.calls]
    assert {evaluation.role for evaluation in watcher.evaluations} == {WHOLE, CONTEXT_PASS}
    assert [evaluation.sigma for evaluation in watcher.evaluations] == shown
