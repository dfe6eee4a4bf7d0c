"""Write the figures of a video (engine/measure/figures.py) as text: the whole, a row for each shot and each joint, and
what was not computed and why.

Times are seconds of the video, for a player shows those; shots count from 1. Plain strings from plain numbers.
"""

from collections.abc import Sequence
from typing import Any

SEAM_IS_SEEN = 3.0  # of a joint's score (engine/measure/reach.py): about 1 is what the shots do
MOST_ROWS = 200  # of a table; the JSON has all of them
MOST_NAMED = 8  # cuts that are listed
PROMPT_LETTERS = 40


def report_text(figures: dict[str, Any]) -> str:
    """Return the report of what `figures` holds; its keys are those of the JSON (web/docs/LongreelReport.md)."""
    video, fps = figures["video"], figures["video"]["fps"]
    lines = [
        f"{video['name']}: {video['frames']} frames, {video['width']} x {video['height']} pixels, {fps:g} fps, "
        f"{video['frames'] / fps:.2f} s",
        "",
        *_whole(figures, fps),
    ]
    if figures["shots"]:
        lines += ["", *_shots(figures["shots"], fps)]
    if figures["joints"]:
        lines += ["", *_joints(figures["joints"], fps)]
    lines += ["", *(f"{name}: {source}" for name, source in figures["sources"].items())]
    if figures["not_computed"]:
        lines += ["not computed:", *(f"  {one['what']}: {one['why']}" for one in figures["not_computed"])]
    return "\n".join(lines).rstrip()


def _whole(figures: dict[str, Any], fps: float) -> list[str]:
    whole = figures["whole"]
    lines = []
    if worst := whole["worst_pair"]:
        lines.append(
            f"worst pair of frames: {worst['difference']:.2f} at {_at(worst['frame'], fps)} (0 is explained by "
            f"movement, 1 black against white)"
        )
    broken = whole["broken_frames"]
    first = f", the first at {_at(whole['first_broken_frame'], fps)}" if broken else ""
    lines.append(f"broken frames: {broken} of {figures['video']['frames']}{first}")
    still = whole["longest_still"]
    longest = f", the longest run {still['frames'] / fps:.2f} s from {_at(still['first_frame'], fps)}" if still else ""
    lines.append(f"frozen frames: {_percent(whole['frozen_share'])}{longest}")
    if loop := whole["loop"]:
        lines.append(
            f"loops: {_at(loop['start_frame'], fps)} to {_at(loop['stop_frame'], fps)} comes again every "
            f"{loop['period_frames'] / fps:.2f} s"
        )
    for number, take in enumerate(figures["takes"], 1):
        where = f"take {number}, from {_at(take['first_frame'], fps)}" if len(figures["takes"]) > 1 else "the video"
        if (drift := take["drift"]) and number <= MOST_ROWS:
            ends = ", ".join(f"{name} {size:.3f}" for name, size in drift["at_the_end"].items())
            lines.append(
                f"drift of {where}: at most {drift['size']:.3f} ({drift['worst']}, {drift['at_seconds']:.1f} s on); at "
                f"its end {ends}"
            )
    lines.append(f"change between frames: {whole['change']:.4f}")
    if (motion := whole["motion_pixels"]) is not None:
        lines.append(f"motion: {motion:.2f} pixels per frame at 720 x 720")
    if whole["mawe_code"] is not None:
        lines.append(f"MAWE: {whole['mawe_code']:.2f} as in the code, {whole['mawe_paper']:.2f} as in the paper's text")
    if whole["cscv"] is not None:
        lines.append(f"CSCV: {100 * whole['cscv']:.2f} %")
    if whole["text_alignment"] is not None:
        lines.append(f"text alignment: {100 * whole['text_alignment']:.2f} (cosine x 100)")
    for name, cuts in whole["cuts"].items():
        places = [_at(frame, fps) for frame in cuts["unplanned_frames"]]
        more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
        named = f", at {', '.join(places[:MOST_NAMED])}{more}" if places else ""
        lines.append(f"SCuts by {name}: {cuts['found']}, of them {cuts['planned']} planned{named}")
    return lines


def _shots(shots: Sequence[dict[str, Any]], fps: float) -> list[str]:
    header = (
        *("shot", "from s", "to s", "broken", "frozen", "drift", "change", "motion"),
        *("MAWE code", "MAWE paper", "CSCV %", "text", "prompt"),
    )
    rows = [
        (
            str(shot["shot"]),
            f"{shot['first_frame'] / fps:.2f}",
            f"{(shot['first_frame'] + shot['frames']) / fps:.2f}",
            str(shot["broken_frames"]),
            _percent(shot["frozen_share"]),
            f"{shot['drift']['size']:.3f} {shot['drift']['worst']}" if shot["drift"] else "-",
            _number(shot["change"], 4),
            _number(shot["motion_pixels"]),
            _number(shot["mawe_code"]),
            _number(shot["mawe_paper"]),
            _number(shot["cscv"], scale=100),
            _number(shot["text_alignment"], scale=100),
            _short(shot["prompt"]),
        )
        for shot in shots[:MOST_ROWS]
    ]
    return _table(header, rows, len(shots))


def _joints(joints: Sequence[dict[str, Any]], fps: float) -> list[str]:
    header = ("joint", "shots", "meets", "reaches s", "seam", "difference", "worst at s", "broken", "")
    rows = []
    for joint in joints[:MOST_ROWS]:
        shots, at = "{}-{}".format(*joint["shots"]), joint["frame"] / fps
        begin = (str(joint["joint"]), shots, joint["how"])
        if joint["seam"] is None:
            said = "planned cut" if joint["cut_seen"] else "planned cut, but nothing changes there"
            rows.append((*begin, f"{at:.2f}", "-", f"{joint['difference']:.2f}", "-", "-", said))
            continue
        reach = f"{joint['first_frame'] / fps:.2f}-{(joint['first_frame'] + joint['frames']) / fps:.2f}"
        figures = (f"{joint['seam']:.2f}", f"{joint['difference']:.2f}", f"{joint['worst_frame'] / fps:.2f}")
        said = "a break is seen" if joint["seam"] >= SEAM_IS_SEEN else ""
        rows.append((*begin, reach, *figures, str(joint["broken_frames"]), said))
    return _table(header, rows, len(joints))


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], in_all: int) -> list[str]:
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header) - 1)]
    lines = ["  ".join([*(c.rjust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in table]
    return lines if in_all <= len(rows) else [*lines, f"... and {in_all - len(rows)} more, in the JSON"]


def _at(frame: int, fps: float) -> str:
    return f"{frame / fps:.2f} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, digits: int = 2, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= PROMPT_LETTERS else f"{line[: PROMPT_LETTERS - 3]}..."
