"""What all benchmarks share: ComfyUI in this process, arguments, tables, intervals, JSON and PNG output.

A benchmark calls the pack's and core's nodes directly, on the GPU when there is one, else on the CPU. It knows no
figure and no model. `python dev.py bench NAME` runs those in tests/bench.
"""

import argparse
import importlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image, ImageDraw

from tests.comfy_inprocess import find_comfyui

_STARTED = time.time()


def start_comfyui() -> ModuleType:
    """ComfyUI's `nodes` module, imported into this process: on the GPU when torch sees one, else with --cpu.

    Raises FileNotFoundError when there is no ComfyUI (run `python dev.py setup`, or set COMFYUI_PATH).
    """
    folder = find_comfyui()
    sys.path.insert(0, str(folder))
    arguments = sys.argv
    # ComfyUI reads its command line while it is imported; ours is given back afterwards.
    sys.argv = ["main.py"] + ([] if torch.cuda.is_available() else ["--cpu"]) + ["--use-pytorch-cross-attention"]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
    finally:
        sys.argv = arguments
    nodes = importlib.import_module("nodes")
    importlib.import_module("comfy.utils").set_progress_bar_enabled(False)
    return nodes


def parser(description: str, seeds: int) -> argparse.ArgumentParser:
    """--seeds (how many random cases), --offset (which), --json FILE, --images FOLDER, --threads."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=_positive, default=seeds, metavar="N", help="how many random cases")
    p.add_argument(
        "--offset", type=int, default=0, metavar="K", help="number of the first case: other cases, other luck"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write the figures with seeds, versions, device, duration")
    p.add_argument("--images", type=Path, metavar="FOLDER", help="write contact sheets and charts as PNG there")
    p.add_argument("--threads", type=_positive, default=torch.get_num_threads(), metavar="T", help="CPU threads")
    return p


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


@contextmanager
def measuring(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The block of a benchmark: inference mode, threads; what it puts into the yielded dict goes to --json."""
    torch.set_num_threads(arguments.threads)
    if arguments.images:
        arguments.images.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    with torch.inference_mode():
        yield figures
    seconds = time.time() - _STARTED
    print(f"\n{device_name()}, torch {torch.__version__}, {seconds:.0f} s")
    if arguments.json:
        report = {
            "arguments": vars(arguments),
            "versions": versions(),
            "device": device_name(),
            "seconds": round(seconds, 1),
            "figures": figures,
        }
        arguments.json.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"figures: {arguments.json}")


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if "comfyui_version" in sys.modules or "nodes" in sys.modules:
        found["comfyui"] = importlib.import_module("comfyui_version").__version__
    return found


def call(node: type, **inputs: Any) -> tuple:
    """Run one node class, old style or V3, as ComfyUI would -> its outputs."""
    if hasattr(node, "define_schema"):
        return node.execute(**inputs).result
    return getattr(node(), node.FUNCTION)(**inputs)


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share, both ends in 0..1."""
    z = 1.959964
    share, spread = right / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(right: int, of: int) -> str:
    """ "93.5 % (89.2 .. 96.2)"."""
    low, high = interval(right, of)
    return f"{100 * right / of:.1f} % ({100 * low:.1f} .. {100 * high:.1f})"


def story_interval(stories: Sequence[Sequence[float]], rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over all values by a bootstrap over stories (Efron and Tibshirani 1993, chapter 13: the
    percentile interval): values of one story are not independent, so whole stories are drawn, with replacement.

    Where every value is 0, or every one 1, drawing says nothing; then it is Wilson's interval for so many stories.
    Raises ValueError without a value.
    """
    sums = torch.tensor([float(sum(story)) for story in stories if len(story)])
    counts = torch.tensor([float(len(story)) for story in stories if len(story)])
    if not len(sums):
        raise ValueError("an interval needs at least one story with a value, got none")
    share = float(sums.sum() / counts.sum())
    if share in (0.0, 1.0) and all(value in (0, 1) for story in stories for value in story):
        return interval(round(share * len(sums)), len(sums))
    drawn = torch.randint(len(sums), (rounds, len(sums)), generator=torch.Generator().manual_seed(0))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def story_percent(stories: Sequence[Sequence[bool]]) -> str:
    """ "93.5 % (89.2 .. 96.2)" of all values, with the interval over stories; "-" without a value."""
    values = [value for story in stories for value in story]
    if not values:
        return "-"
    if len(stories) == 1:
        return f"{100 * sum(values) / len(values):.1f} % (1 story)"
    low, high = story_interval(stories)
    return f"{100 * sum(values) / len(values):.1f} % ({100 * low:.1f} .. {100 * high:.1f})"


def story_median(stories: Sequence[Sequence[float]], rounds: int = 2000) -> str:
    """ "0.93 (0.71 .. 1.40)": the median over all values, with the bootstrap's 95 % interval over stories."""
    filled = [torch.tensor([float(value) for value in story]) for story in stories if len(story)]
    if not filled:
        return "-"
    if len(filled) == 1:
        return f"{float(filled[0].quantile(0.5)):.3g} (1 story)"
    drawn = torch.randint(len(filled), (rounds, len(filled)), generator=torch.Generator().manual_seed(0))
    medians = torch.stack([torch.cat([filled[n] for n in row]).quantile(0.5) for row in drawn.tolist()])
    low, high = medians.quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{float(torch.cat(filled).quantile(0.5)):.3g} ({low:.3g} .. {high:.3g})"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A text table: first column left, the others right; numbers with four figures."""
    cells = [[str(h) for h in headers]] + [
        [f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def contact_sheet(
    videos: Sequence[torch.Tensor], captions: Sequence[str], path: Path, every: int = 2, scale: int = 1
) -> None:
    """One row per video [F, H, W, 3] (0..1): every `every`-th frame, the caption above it."""
    strips = [torch.cat(list(v[::every].float().cpu().clamp(0, 1)), 1) for v in videos]  # [H, n * W, 3]
    band = 14
    height = sum(s.shape[0] * scale + band for s in strips)
    sheet = Image.new("RGB", (max(s.shape[1] for s in strips) * scale, height), (24, 24, 24))
    draw, top = ImageDraw.Draw(sheet), 0
    for strip, caption in zip(strips, captions, strict=True):
        draw.text((4, top + 1), caption, fill=(230, 230, 230))
        image = Image.fromarray((strip * 255).round().byte().numpy())
        sheet.paste(image.resize((image.width * scale, image.height * scale), Image.NEAREST), (0, top + band))
        top += band + image.height * scale
    sheet.save(path)
    print(f"sheet: {path}")


def frame_sheet(
    videos: Sequence[torch.Tensor],
    captions: Sequence[str],
    path: Path,
    marked: Sequence[torch.Tensor] | None = None,
    chosen: Sequence[Sequence[int]] | None = None,
    columns: int = 24,
) -> None:
    """Every frame of every video [F, H, W, 3] (0..1) with its number, in lines of `columns`, below its caption.

    marked: of each video, [F] bool: frames with a red frame (what a yardstick calls broken). chosen: of each video, the
    frames to show, in order; None for all.
    """
    band, gap = 14, 2
    height, width = videos[0].shape[1:3]
    numbers = [list(range(len(v))) if chosen is None else list(chosen[n]) for n, v in enumerate(videos)]
    lines = sum(max(1, math.ceil(len(some) / columns)) for some in numbers)
    size = (columns * (width + gap), len(videos) * band + lines * (height + band))
    sheet, top = Image.new("RGB", size, (24, 24, 24)), 0
    draw = ImageDraw.Draw(sheet)
    for n, (video, caption) in enumerate(zip(videos, captions, strict=True)):
        draw.text((4, top + 1), caption, fill=(255, 220, 120))
        top += band
        for place, number in enumerate(numbers[n]):
            x, y = place % columns * (width + gap), top + place // columns * (height + band)
            draw.text((x + 1, y), str(number), fill=(190, 190, 190))
            picture = (video[number].float().cpu().clamp(0, 1) * 255).round().byte().numpy()
            sheet.paste(Image.fromarray(picture), (x, y + band))
            if marked is not None and bool(marked[n][number]):
                draw.rectangle((x, y + band, x + width - 1, y + band + height - 1), outline=(255, 40, 40), width=2)
        top += max(1, math.ceil(len(numbers[n]) / columns)) * (height + band)
    sheet.save(path)
    print(f"sheet: {path}")


def bar_chart(
    values: dict[str, float],
    path: Path,
    title: str,
    mark: float | None = None,
    text: Callable[[float], str] = "{:.3g}".format,
) -> None:
    """Horizontal bars from 0; `mark` draws a line across all of them."""
    line, left, wide = 24, 190, 420
    top = max([*values.values(), mark or 0.0, 1e-9])
    image = Image.new("RGB", (left + wide + 90, line * (len(values) + 2)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 6), title, fill="black")
    for row, (name, value) in enumerate(values.items(), start=1):
        y = row * line + 8
        draw.text((8, y), name, fill="black")
        draw.rectangle((left, y, left + wide * value / top, y + line - 8), fill=(70, 110, 170))
        draw.text((left + wide * value / top + 6, y), text(value), fill="black")
    if mark is not None:
        x = left + wide * mark / top
        draw.line((x, line, x, line * (len(values) + 1) + 8), fill=(200, 60, 40), width=2)
    image.save(path)
    print(f"chart: {path}")


def line_chart(
    series: dict[str, Sequence[float]],
    path: Path,
    title: str,
    top: float | None = None,
    mark: float | None = None,
    first: int = 1,
) -> None:
    """One line per series over `first`, first + 1, ..., from 0 to `top` (None: the highest value); `mark` draws a
    level, in grey."""
    colors = [(214, 69, 65), (70, 110, 170), (44, 140, 80), (230, 150, 30), (120, 60, 160), (30, 30, 30)]
    left, over, wide, tall = 50, 30, 640, 260
    most, count = top or max(max(values) for values in series.values()), max(len(v) for v in series.values())
    image = Image.new("RGB", (left + wide + 20, over + tall + 40 + 16 * len(series)), "white")
    draw = ImageDraw.Draw(image)

    def place(number: int, value: float) -> tuple[float, float]:
        return left + wide * number / max(1, count - 1), over + tall * (1 - min(value, most) / most)

    draw.text((8, 6), title, fill="black")
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = place(0, most * share)[1]
        draw.line((left, y, left + wide, y), fill=(220, 220, 220))
        draw.text((8, y - 6), f"{most * share:.3g}", fill="black")
    for number in range(0, count, max(1, count // 10)):
        draw.text((place(number, 0)[0] - 4, over + tall + 6), str(number + first), fill="black")
    if mark is not None:
        draw.line((*place(0, mark), *place(count - 1, mark)), fill=(110, 110, 110), width=2)
    for row, (name, values) in enumerate(series.items()):
        color = colors[row % len(colors)]
        draw.line([place(number, value) for number, value in enumerate(values)], fill=color, width=2)
        y = over + tall + 30 + 16 * row
        draw.line((left, y + 6, left + 24, y + 6), fill=color, width=3)
        draw.text((left + 32, y), name, fill="black")
    image.save(path)
    print(f"chart: {path}")
