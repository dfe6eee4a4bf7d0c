"""Show what a run has to show of itself: the loss curve, a page of validation samples, and what it has learned in a
line or two.

Pictures are drawn with PIL, which comes with ComfyUI. Which numbers a run records is said by `Row`; how they come
about is not known here.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 960, 480  # pixels
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 34, 44
PAPER, INK, GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
EACH_STEP, SMOOTHED, HELD_OUT, BORDER = (180, 200, 235), (30, 80, 180), (200, 60, 40), (150, 150, 150)
SMOOTHED_OVER = 0.02  # of all steps
PAGE_FRAMES = 8  # of a sample


class Row(NamedTuple):
    """This is one step: loss before it, norm of its gradients, rate of the TTT layers, videos shown without
    prompts.
    """

    loss: float
    norm: float
    rate: float
    dropped: float


def loss_curve(
    losses: Sequence[float], held_out: Sequence[tuple[int, float]] = (), borders: Sequence[tuple[int, str]] = ()
) -> Image.Image:
    """Draw the loss curve. losses: of each step. held_out: (steps made, loss of the held-out clips). borders: (first
    step, name) of each stage. The loss axis is logarithmic where all values are above 0.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)
    values = [value for value in [*losses, *(loss for _, loss in held_out)] if math.isfinite(value)]
    if not values:
        draw.text((LEFT, TOP), "0 steps", INK)
        return picture
    logarithmic = min(values) > 0
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    last = max(1, len(losses) - 1, *(step for step, _ in held_out))

    def place(step: float, loss: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(loss) - low) / (high - low)

    for part in range(5):
        level = low + (high - low) * part / 4
        loss = 10**level if logarithmic else level
        y = place(0, loss)[1]
        draw.line([(LEFT, y), (WIDTH - RIGHT, y)], GRID)
        draw.text((6, y - 6), f"{loss:.4g}", INK)
        step = round(last * part / 4)
        draw.text((place(step, loss)[0] - 6 * (part > 0) * len(str(step)), HEIGHT - BOTTOM + 8), str(step), INK)
    for step, name in borders:
        x = place(step, values[0])[0]
        draw.line([(x, TOP), (x, HEIGHT - BOTTOM)], BORDER)
        draw.text((x + 4, TOP + 2), name, INK)
    for points, colour, thick in (
        (list(enumerate(losses)), EACH_STEP, 1),
        (list(enumerate(smoothed(losses))), SMOOTHED, 2),
        (list(held_out), HELD_OUT, 2),
    ):
        drawn = [place(step, loss) for step, loss in points if math.isfinite(loss)]
        if len(drawn) > 1:
            draw.line(drawn, colour, thick)
        for x, y in drawn if len(drawn) == 1 or colour == HELD_OUT else ():
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
    for x, text, colour in (
        (LEFT, "loss of each step", EACH_STEP),
        (LEFT + 150, "smoothed", SMOOTHED),
        (LEFT + 250, "held-out clips", HELD_OUT),
    ):
        draw.rectangle([x, 12, x + 10, 22], colour)
        draw.text((x + 16, 10), text, INK)
    draw.text((WIDTH - 90, HEIGHT - 18), "steps", INK)
    return picture


def learned(losses: Sequence[float], held_out: Sequence[tuple[int, float]]) -> list[str]:
    """Return lines for people. losses: of each step, one at least. held_out: (steps made, loss of the held-out
    clips).
    """
    lines = [f"{len(losses)} steps, loss of the first {losses[0]:.4f}, of the last {losses[-1]:.4f}"]
    if held_out:
        (first_step, first_loss), (last_step, last_loss) = held_out[0], held_out[-1]
        lines.append(f"held-out clips: {first_loss:.4f} after {first_step} steps, {last_loss:.4f} after {last_step}")
    return lines


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return an exponential average over about 2 % of all steps, 1 at least, that starts at the first loss."""
    share = 1 / max(1.0, SMOOTHED_OVER * len(losses))
    found: list[float] = []
    for loss in losses:
        found.append(loss if not found else found[-1] + share * (loss - found[-1]))
    return found


def sample_page(videos: Sequence[torch.Tensor]) -> Image.Image:
    """Draw one row for each video [F, H, W, 3] in 0..1: up to 8 of its frames, evenly chosen, from first to last.

    Raises ValueError for no videos.
    """
    if not videos:
        raise ValueError("a page has no samples; give 1 or more")
    rows = []
    for video in videos:
        chosen = torch.linspace(0, len(video) - 1, min(PAGE_FRAMES, len(video))).round().long()
        rows.append(torch.cat(list(video[chosen.to(video.device)]), dim=1).float().cpu())  # [H, frames * W, 3]
    width = max(row.shape[1] for row in rows)
    page = Image.new("RGB", (width, sum(row.shape[0] for row in rows)), PAPER)
    down = 0
    for row in rows:
        page.paste(Image.fromarray((row.clamp(0, 1) * 255).round().byte().numpy()), (0, down))
        down += row.shape[0]
    return page
