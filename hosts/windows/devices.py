"""Hand the segments of a joint evaluation to several devices, each whole to one of them.

Core's MultiGPU nodes put clones of a MODEL on further devices, and its sampler then evaluates prompt and negative
prompt on two of them: at most two, and at cfg 1 nothing (comfy/multigpu.py, comfy/samplers.py). Segments need nothing
of each other within one evaluation, so here each goes to the clone of one device as if there were no other; core's own
threads, one for each device, evaluate them. Every segment is computed as on one device, to the bit where devices are of
one kind.

A feature that reads one segment's keys and values in another one says which (`evaluated_before`), and has a run of its
own on each device: there these segments are evaluated again, and their prediction is dropped. Whatever else carries
something from segment to segment needs them in order: then, and where evaluating again would cost more than it saves,
nothing is handed out, and core splits the prompts as it does without this; the log says why. How a latent is cut and
blended is not known here.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event
from typing import Any

import torch

import comfy.patcher_extension
import comfy.samplers

from ...engine.plan.devices import gain, share_out
from .. import keys
from ..attention.feature import Running
from ..attention.noise_level import level_of
from ..attention.step_caches import CACHE
from ..types import BaseModel, CalcCondBatch, CondLists, Entry, ModelOptions

CLONES, POOL, SPEEDS = "multigpu_clones", "multigpu_thread_pool", "multigpu_options"  # core's keys in model_options
DEVICE = "multigpu_thread_device"  # core's key in transformer_options: where a forward runs
OF_ONE_DEVICE = {"control": "a ControlNet", "hooks": "hooks that change weights", "gligen": "GLIGEN"}
"""What core changes while it evaluates an entry that has it, by the entry's key."""


def obstacle(model_options: ModelOptions, conds: CondLists) -> str | None:
    """Return what on this model needs segments one after the other; None if nothing does."""
    options = model_options["transformer_options"]
    if keys.PROMPT_EDIT in options:  # while its original is sampled it is no feature, and notes in order what is shown
        return "Longreel Prompt Edit"
    running = options.get(keys.RUNNING)
    for name, run in zip(running.names, running.runs, strict=True) if running else ():
        if not hasattr(run, "evaluated_before"):
            return name
    if CACHE in options:
        return "a cache of skipped steps"
    given = {key for entries in conds if entries for entry in entries for key in entry if entry[key] is not None}
    return next((what for key, what in OF_ONE_DEVICE.items() if key in given), None)


class Devices:
    """The devices of one run of a sampler: which of them evaluates which segments, and the features' runs on each."""

    def __init__(self, frames: Sequence[int], model_options: ModelOptions):
        """Share out one segment for each of `frames`, its latent frames."""
        found, running = list(model_options[CLONES]), model_options["transformer_options"].get(keys.RUNNING)
        runs = running.runs if running else ()
        needs = [frozenset().union(*(run.evaluated_before(number) for run in runs)) for number in range(len(frames))]
        speeds = [model_options.get(SPEEDS, {}).get(device, {}).get("relative_speed", 1.0) for device in found]
        shares = share_out(frames, speeds, needs)
        self.gain = gain(shares, frames, speeds)
        self.shares = dict(zip(found, shares, strict=True))
        self.owner = {number: device for device, share in self.shares.items() for number in share.own}
        self.running = {
            device: running and replace(running, runs=tuple(run.for_device() for run in runs)) for device in found
        }

    def hand_out(
        self,
        model_options: ModelOptions,
        timestep: torch.Tensor,
        calc_cond_batch: CalcCondBatch,
        evaluate: Callable[[int, BaseModel, ModelOptions, CalcCondBatch], Any],
    ) -> "SegmentsOnDevices":
        """Have core's threads begin with the segments of one evaluation.

        evaluate(number, model, model_options, calc_cond_batch) is what a thread does for the segment of that number.
        """
        handed_out = SegmentsOnDevices(model_options[POOL], [self.owner[number] for number in sorted(self.owner)])
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()  # a thread has modes of its own

        def work(device: torch.device, numbers: Sequence[int]):
            """Evaluate these segments, and return the result of the last one; nothing where another has failed."""
            found = None
            for number in numbers:
                if handed_out.failed.is_set():
                    return None
                try:
                    with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
                        alone = _options_of(device, model_options, timestep, self.running[device])
                        model = model_options[CLONES][device].model
                        found = evaluate(number, model, alone, _on_device(calc_cond_batch, device))
                except BaseException:
                    handed_out.failed.set()
                    raise
            return found

        for device, share in self.shares.items():
            waiting: list[int] = []
            for number in share.evaluated:
                waiting.append(number)
                if number in share.own:
                    model_options[POOL].submit(device, work, device, tuple(waiting))
                    waiting.clear()
        return handed_out


class SegmentsOnDevices:
    """The segments of one evaluation, while core's threads work on them. Results are taken in the order of the segments
    (`result`), for each device keeps its own in order.
    """

    def __init__(self, pool: Any, devices: Sequence[torch.device]):
        """`devices`: of each segment."""
        self.pool, self.devices, self.failed, self.taken = pool, devices, Event(), 0

    def result(self, number: int) -> Any:
        """Wait for the result of the next segment, which must be this one. Where one failed, the others are waited for,
        so that nothing uses the network any more, and its error is raised."""
        if number != self.taken:
            raise RuntimeError(f"segment {number + 1} is asked for, and {self.taken + 1} is next")
        found, error = self.pool.get_result(self.devices[number])
        self.taken += 1
        if self.failed.is_set():
            errors = [error, *(self.pool.get_result(device)[1] for device in self.devices[self.taken :])]
            raise next(error for error in errors if error is not None)
        return found


def of_run(frames: Sequence[int], model_options: ModelOptions, conds: CondLists, in_order: str = "") -> Devices | None:
    """Return what shares a run's segments out, one for each of `frames`; None where they go in order.

    Why they do is logged of a model that has several devices. in_order: a reason that the caller knows.
    """
    if POOL not in model_options or len(model_options.get(CLONES, ())) < 2 or len(frames) == 1:
        return None
    why = in_order or obstacle(model_options, conds)
    if not why:
        found = Devices(frames, model_options)
        if found.gain > 1:
            return found
        why = "segments that each read from the one before"
    logging.warning(
        "Longreel: segments are evaluated one after the other, though the model is on %d devices, because of %s; only "
        "prompt and negative prompt are divided between them",
        len(model_options[CLONES]),
        why,
    )
    return None


def _options_of(
    device: torch.device, model_options: ModelOptions, timestep: torch.Tensor, running: Running | None
) -> ModelOptions:
    """Return the options as of a model that this device alone has; what core puts into them is put into a copy."""
    alone = {key: value for key, value in model_options.items() if key not in (CLONES, POOL, SPEEDS)}
    options = alone["transformer_options"] = comfy.patcher_extension.copy_nested_dicts(
        model_options["transformer_options"]
    )
    if "sample_sigmas" in options:
        options["sample_sigmas"] = options["sample_sigmas"].to(device)
    options[keys.NOISE_LEVEL] = timestep, level_of(timestep, model_options["transformer_options"])
    options[DEVICE] = device
    if running is not None:
        options[keys.RUNNING] = running
    comfy.samplers.cast_transformer_options(options, device=device)
    return alone


def _on_device(calc_cond_batch: CalcCondBatch, device: torch.device) -> CalcCondBatch:
    """Return core's evaluation with all that it is shown on a device, and its results where the latent was."""

    def evaluate(
        model: BaseModel, conds: CondLists, x: torch.Tensor, timestep: torch.Tensor, model_options: ModelOptions
    ):
        options = model_options["transformer_options"]
        moved = timestep.to(device)
        options[keys.NOISE_LEVEL] = moved, level_of(timestep, options)
        shown = [entries and [_entry_on(device, entry) for entry in entries] for entries in conds]
        return [out.to(x.device) for out in calc_cond_batch(model, shown, x.to(device), moved, model_options)]

    return evaluate


def _entry_on(device: torch.device, entry: Entry) -> Entry:
    """Return a conditioning entry as a device is shown it."""
    return {**entry, "model_conds": {key: _cond_on(device, cond) for key, cond in entry["model_conds"].items()}}


def _cond_on(device: torch.device, cond: Any) -> Any:
    return cond if cond is None else cond._copy_with(_moved(device, cond.cond))


def _moved(device: torch.device, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(device, part) for part in value)
    if isinstance(value, dict):
        return {key: _moved(device, part) for key, part in value.items()}
    return value
