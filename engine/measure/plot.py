"""Draw what was measured frame by frame over time, one strip for each measure, shots and joints behind all of them.

Plain PIL, which comes with ComfyUI, and its own font. Each column of pixels shows the largest value of its frames, so
that one broken frame of an hour is seen. Every strip has a scale of its own, its largest value at the right end.
"""

import itertools
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .by_frame import Columns
from .drift import drift_of
from .figures import JointSpan, ShotSpan

WIDTH, STRIP, LEFT, RIGHT, TOP, GAP = 1120, 84, 150, 70, 34, 10  # pixels
BACK, PAPER, ODD, JOINT, INK, FAINT = "#16181d", "#22252c", "#292d36", "#4a3d22", "#e6e8ec", "#8b919c"
CUT, BROKEN, FROZEN = "#8fa0bd", "#ff5a4f", "#57a8ff"
LEGEND = (("broken", BROKEN), ("frozen", FROZEN), ("transition", "#d8a73c"), ("planned cut", CUT))
LINE = ("#7bd88f", "#5ad4e6", "#fce566", "#fd9353", "#c9a6ff", "#ff8fb1", "#b8e986", "#9ad1ff")
STRIPS = (  # column, title, least height of the scale
    ("near", "unexplained change", 0.1),
    ("far", "the same, 4 frames apart", 0.1),
    ("drift", "drift from the start", 0.05),
    ("change", "change", 0.01),
    ("flow", "motion, pixels at 720", 0.5),
    ("warp_error", "warp error", 1.0),
    ("unlike", "unlike the next (CLIP)", 0.02),
    ("text", "text alignment", 0.1),
)


def plot(columns: Columns, fps: float, shots: Sequence[ShotSpan], joints: Sequence[JointSpan]) -> Image.Image:
    """Return the picture, RGB, WIDTH pixels wide; strips whose column is missing are left out."""
    frames = len(columns["broken"])
    rows = [(title, least, values) for name, title, least in STRIPS if (values := _values(columns, name)) is not None]
    height = TOP + len(rows) * (STRIP + GAP) + 26
    picture = Image.new("RGB", (WIDTH, height), BACK)
    draw = ImageDraw.Draw(picture)
    inside = WIDTH - LEFT - RIGHT

    def x(frame: float) -> int:
        return LEFT + round(inside * min(max(frame, 0), frames) / frames)

    for place, (word, colour) in enumerate(LEGEND):
        draw.text((LEFT + 90 * place, 4), word, fill=colour)
    for row, (title, least, values) in enumerate(rows):
        top = TOP + row * (STRIP + GAP)
        bottom = top + STRIP
        draw.rectangle((LEFT, top, LEFT + inside, bottom), fill=PAPER)
        for number, shot in enumerate(shots):
            if number % 2:
                draw.rectangle((x(shot.start), top, x(shot.stop), bottom), fill=ODD)
        for joint in joints:
            if joint.is_cut:
                draw.line((x(joint.boundary), top, x(joint.boundary), bottom), fill=CUT, width=2)
            else:
                draw.rectangle((x(joint.start), top, max(x(joint.stop), x(joint.start) + 1), bottom), fill=JOINT)
        most = max(least, float(values.max()))
        peaks = _by_pixel(values, inside)
        points = [(LEFT + i, bottom - 1 - round((STRIP - 3) * max(0.0, v) / most)) for i, v in enumerate(peaks)]
        draw.line(points, fill=LINE[row % len(LINE)], width=1)
        draw.text((6, top + 4), title, fill=INK)
        draw.text((LEFT + inside + 6, top), f"{most:.3g}", fill=FAINT)
        draw.text((LEFT + inside + 6, bottom - 11), "0", fill=FAINT)
        _marks(draw, columns["frozen"], inside, (bottom - 3, bottom), FROZEN)
        _marks(draw, columns["broken"], inside, (top, top + 5), BROKEN)
    for number, shot in enumerate(shots, 1):
        if x(shot.stop) - x(shot.start) > 7 * len(str(number)):
            draw.text((x(shot.start) + 3, TOP - 13), str(number), fill=FAINT)
    for part in range(6):
        draw.text((x(frames * part / 5) - 8, height - 20), f"{frames * part / 5 / fps:.1f} s", fill=FAINT)
    return picture


def _values(columns: Columns, name: str) -> Tensor | None:
    """Return a strip's values over time, or None where nothing was measured."""
    if name == "drift":
        rows = columns["statistics"]
        window = max(1, len(rows) // 200)
        found = torch.stack(list(drift_of(rows, window).by_window.values())).amax(0)
        return found.repeat_interleave(window)
    if name == "unlike":
        return 1 - columns["likeness"] if "likeness" in columns else None
    values = columns.get(name)
    if values is None or not len(values):
        return None
    return torch.nan_to_num(values.float(), nan=0.0)


def _by_pixel(values: Tensor, pixels: int) -> list[float]:
    """Return the largest value of the frames that each of `pixels` columns shows."""
    if len(values) <= pixels:
        return values[torch.arange(pixels) * len(values) // pixels].tolist()
    ends = [len(values) * i // pixels for i in range(pixels + 1)]
    return [float(values[a:b].max()) for a, b in itertools.pairwise(ends)]


def _marks(draw: ImageDraw.ImageDraw, flags: Tensor, inside: int, rows: tuple[int, int], colour: str) -> None:
    for i, flag in enumerate(_by_pixel(flags.float(), inside)):
        if flag:
            draw.line((LEFT + i, rows[0], LEFT + i, rows[1]), fill=colour)
