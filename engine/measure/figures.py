"""Turn what was measured frame by frame into figures of a whole video, its takes, shots and joints, ready for JSON.

A joint that was planned as a cut is no defect: no pair across it counts anywhere. Frames count from 0, shots from 1.
What a figure means stands where it is defined: CSCV in engine/measure/metrics.py, MAWE in mawe.py, seams and the worst
pair in reach.py, broken frames in flicker.py, frozen ones and loops in still.py, drift in drift.py, cuts in cuts.py. A
figure whose columns are missing, or that has nothing to be taken from, is None.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .by_frame import Columns
from .cuts import SCENEDETECT, TRANSNET
from .drift import STATISTICS, drift_of
from .mawe import mawe_of_the_code, mawe_of_the_paper
from .metrics import cscv_of
from .reach import PairDifferences, reach_seams
from .still import Loop, longest_run

NEAR_A_CUT = 2  # frames that a found cut may lie beside a planned one
LEAST_DRIFT_FRAMES = 4  # frames of one shot or take that are compared with others
CUT_SEEN = 0.08  # unexplained difference at a planned cut from which the picture changes there


@dataclass(frozen=True)
class ShotSpan:
    """A shot is the pixel frames [start, stop) and the prompt that it was made from."""

    start: int
    stop: int
    prompt: str


@dataclass(frozen=True)
class JointSpan:
    """A joint lies in front of frame `boundary`; its transition takes part in the frames [start, stop), in none where
    it is a cut. `how` is the storyboard's word: continue, blend or cut.
    """

    boundary: int
    start: int
    stop: int
    how: str

    @property
    def is_cut(self) -> bool:
        return self.how == "cut"


def figures_of(
    columns: Columns, loop: Loop | None, fps: float, shots: Sequence[ShotSpan], joints: Sequence[JointSpan]
) -> dict[str, Any]:
    """Return {"whole": figures, "takes": [...], "shots": [...], "joints": [...]}; without shots, the whole alone."""
    cuts = [joint.boundary for joint in joints if joint.is_cut]
    frames = len(columns["broken"])
    whole = _stretch(columns, 0, frames, cuts)
    whole["cuts"] = {
        name.removeprefix("cut_"): _found_cuts(columns[name], cuts)
        for name in (SCENEDETECT, TRANSNET)
        if name in columns
    }
    whole["loop"] = (
        None
        if loop is None
        else {"start_frame": loop.start, "stop_frame": loop.stop, "period_frames": loop.period_frames}
    )
    edges = [0, *cuts, frames]
    takes = [
        {"first_frame": a, "frames": b - a, "drift": _drift(columns["statistics"][a:b], fps)}
        for a, b in itertools.pairwise(edges)
    ]
    return {
        "whole": whole,
        "takes": takes,
        "shots": [_shot(columns, number, shot, fps, cuts) for number, shot in enumerate(shots, 1)],
        "joints": _joints(columns, joints, cuts),
    }


def _shot(columns: Columns, number: int, shot: ShotSpan, fps: float, cuts: Sequence[int]) -> dict[str, Any]:
    found = {"shot": number, "prompt": shot.prompt, "first_frame": shot.start, "frames": shot.stop - shot.start}
    found |= _stretch(columns, shot.start, shot.stop, cuts)
    found["drift"] = _drift(columns["statistics"][shot.start : shot.stop], fps)
    return found


def _stretch(columns: Columns, start: int, stop: int, cuts: Sequence[int]) -> dict[str, Any]:
    """Return the figures of the frames [start, stop): all of their pairs but those across a planned cut."""
    kept = torch.ones(max(0, stop - start - 1), dtype=torch.bool)
    for cut in cuts:
        if start < cut < stop:
            kept[cut - 1 - start] = False

    def pairs(name: str) -> Tensor | None:
        return columns[name][start : stop - 1][kept] if name in columns and bool(kept.any()) else None

    near, likeness, flow = pairs("near"), pairs("likeness"), pairs("flow")
    broken, frozen = columns["broken"][start:stop], _later_frames(columns["frozen"], start, stop, kept)
    run = longest_run(columns["frozen"][start + 1 : stop])
    errors, squares = pairs("warp_error"), pairs("flow_square")
    text = columns["text"][start:stop] if "text" in columns else None
    moves = flow is not None and errors is not None and squares is not None
    return {
        "worst_pair": None if near is None else _worst(columns["near"][start : stop - 1], kept, start),
        "broken_frames": int(broken.sum()),
        "first_broken_frame": start + int(broken.nonzero()[0]) if bool(broken.any()) else None,
        "frozen_share": None if frozen is None else float(frozen.float().mean()),
        "longest_still": None if run is None else {"first_frame": start + run.start, "frames": run.frames + 1},
        "change": _mean(pairs("change")),
        "motion_pixels": _mean(flow),
        "mawe_code": mawe_of_the_code(errors, flow) if moves else None,  # type: ignore[arg-type]
        "mawe_paper": mawe_of_the_paper(errors, squares, flow) if moves else None,  # type: ignore[arg-type]
        "cscv": None if likeness is None else _cscv(likeness),
        "text_alignment": _mean(None if text is None else text[text.isfinite()]),
    }


def _later_frames(flags: Tensor, start: int, stop: int, kept: Tensor) -> Tensor | None:
    """Return the flags of the later frames of the pairs that are `kept` of [start, stop), or None where none is."""
    return flags[start + 1 : stop][kept] if bool(kept.any()) else None


def _worst(near: Tensor, kept: Tensor, start: int) -> dict[str, Any]:
    at = int(near.masked_fill(~kept, -1).argmax())
    return {"difference": float(near[at]), "frame": start + at + 1}


def _mean(values: Tensor | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())


def _cscv(likeness: Tensor) -> float | None:
    """Return CSCV of the likenesses of neighbouring frames (engine/measure/metrics.py), None where it is undefined."""
    return cscv_of(likeness.double()) if float(likeness.mean()) > 0 else None


def _drift(statistics: Tensor, fps: float) -> dict[str, Any] | None:
    """Return how far each statistic lies from the first second at the end, and the worst of all; None where the stretch
    is too short to be compared with itself.
    """
    window = min(max(LEAST_DRIFT_FRAMES, round(fps)), len(statistics) // 2)
    if window < LEAST_DRIFT_FRAMES:
        return None
    drift = drift_of(statistics, window)
    name, size, at = drift.worst
    ends = {statistic: float(drift.by_window[statistic][-1]) for statistic in STATISTICS}
    return {"worst": name, "size": size, "at_seconds": at * window / fps, "at_the_end": ends, "window_frames": window}


def _found_cuts(found: Tensor, planned: Sequence[int]) -> dict[str, Any]:
    """Return how many cuts a detector found, how many of those were planned, and where the others are."""
    frames = found.nonzero().flatten().tolist()
    meant = [frame for frame in frames if any(abs(frame - cut) <= NEAR_A_CUT for cut in planned)]
    return {"found": len(frames), "planned": len(meant), "unplanned_frames": [f for f in frames if f not in meant]}


def _joints(columns: Columns, joints: Sequence[JointSpan], cuts: Sequence[int]) -> list[dict[str, Any]]:
    differences = PairDifferences(columns["near"], columns["far"])
    soft = [joint for joint in joints if not joint.is_cut]
    seams = iter(reach_seams(differences, [(joint.start, joint.stop) for joint in soft], cuts) if soft else [])
    rows = []
    for number, joint in enumerate(joints, 1):
        row: dict[str, Any] = {"joint": number, "shots": [number, number + 1]}
        row |= {"how": joint.how, "frame": joint.boundary}
        if joint.is_cut:
            seen = float(columns["near"][joint.boundary - 1])
            row |= {"seam": None, "difference": seen, "cut_seen": seen >= CUT_SEEN}
        else:
            seam = next(seams)
            broken = columns["broken"][joint.start : joint.stop]
            row |= {
                "first_frame": joint.start,
                "frames": joint.stop - joint.start,
                "seam": seam.score,
                "difference": seam.difference,
                "worst_frame": seam.frame + 1,
                "frames_apart": seam.frames_apart,
                "broken_frames": int(broken.sum()),
            }
        rows.append(row)
    return rows
