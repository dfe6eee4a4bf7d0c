"""Functions of core come back as they were; what they only read, and functions of other packs, are left alone."""

import functools

import pytest
import torch

from comfy_extras.nodes_apg import APG

from longreel.engine.runs.folder import open_run
from longreel.hosts.sampling import identity
from longreel.hosts.windows.used_state import as_it_was
from tests.hosts.rollout_cases import rolled, story


def as_core(function):
    """The function as if it stood in a file of core."""
    function.__code__ = function.__code__.replace(co_filename=APG.execute.__func__.__code__.co_filename)
    return function


def counting(start: int):
    """A function that counts its calls in the function around it, as core's APG does."""
    count, setting = start, ["set by the user"]

    def call():
        nonlocal count
        count += 1
        return count, setting

    as_core(call)
    return call


@pytest.mark.parametrize("wrapped", [lambda call: call, functools.partial, lambda call: lambda: [call()]])
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_function_assigned_is_set_back(tiny, wrapped, interrupted: bool):
    model, call = tiny("wan21").model.clone(), counting(3)
    model.model_options["sampler_post_cfg_function"] = [wrapped(call)]
    try:
        with as_it_was(model):
            assert call()[0] == 4
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert interrupted
    assert call()[0] == 4


def test_lists_and_dicts_that_a_function_encloses_are_filled_as_they_were(tiny):
    """Core's PerpNeg replaces the entries of its list of prompts by processed ones."""
    model, prompts, cache = tiny("wan21").model.clone(), [{"text": 1}, [2]], {"a": 1}
    before = list(prompts)

    def call(args):
        prompts[0] = {**prompts[0], "model_conds": 2}
        prompts[1].append(3)
        cache.update(b=2)

    as_core(call)
    model.model_options["sampler_pre_cfg_function"] = [call]
    with as_it_was(model):
        call(None)
        assert prompts[0] != before[0] and len(cache) == 2
    assert prompts == [{"text": 1}, [2]] and prompts[0] is before[0] and cache == {"a": 1}


def test_what_another_packs_function_collects_stays(tiny):
    model, calls, collected = tiny("wan21").model.clone(), 0, []

    def collect(args):
        nonlocal calls
        calls += 1
        collected.append(args)

    model.model_options["sampler_post_cfg_function"] = [collect]
    with as_it_was(model):
        collect("a map of attention")
    assert calls == 1 and collected == ["a map of attention"]


def test_what_a_user_changes_in_between_stays(tiny):
    """Only variables that the function itself assigns are state."""
    model, setting = tiny("wan21").model.clone(), 1.0

    def change():
        nonlocal setting
        setting = 2.0

    def read(args):
        return setting

    as_core(read)
    model.model_options["sampler_post_cfg_function"] = [read]
    with as_it_was(model):
        change()
    assert setting == 2.0


def test_apg_in_a_run_leaves_no_trace_in_what_chunks_depend_on(tiny, tmp_path):
    loaded = tiny("wan21")
    timeline = story(loaded.model, frames=5)
    model = APG.execute(loaded.model, 1.0, 5.0, 0.5).args[0]
    before, reports, outs = str(identity.of_model(model)["options"]), [], []
    for _ in range(2):
        with open_run(tmp_path / "run") as run:
            out, report = rolled(loaded, timeline, model, run=run)
            outs.append(out)
            reports.append(report)
    assert str(identity.of_model(model)["options"]) == before
    assert "made" in reports[0] and "made" not in reports[1]
    with open_run(tmp_path / "run") as run:
        fresh = APG.execute(loaded.model, 1.0, 5.0, 0.5).args[0]
        assert "made" not in rolled(loaded, timeline, fresh, run=run)[1]
    assert torch.equal(*outs)
