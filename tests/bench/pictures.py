"""What do the yardsticks say of the bundled moving pictures, and what does a person? Every frame of web/docs/*.webp.

    python dev.py bench pictures [--names ttt ...] [--images FOLDER] [--json FILE]

Without knowledge of the world (engine/measure): the worst pair and its later frame, how many frames flicker or are
broken, how many are frozen, and how far colours and the like drift from the first second. Of pictures that are one
video of shape world, how many frames the detector calls broken too, in stretches of a second. The sheets have every
frame; those that either calls broken are framed red. Look at them: what a person would call broken is a failure,
whatever the figures say. The second table holds both against the frames that a person called broken
(tests/bench/_looked_at.py); doubtful frames count for neither side. --seeds and --offset do nothing here.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageSequence

from longreel.engine.measure.drift import find_drift
from longreel.engine.measure.flicker import find_flicker
from longreel.engine.measure.reach import pair_differences, worst_pair
from longreel.engine.measure.still import find_still
from tests.bench import _look
from tests.bench._looked_at import PICTURES, LookedAt
from tests.bench_support import frame_sheet, measuring, parser, table

DOCS = Path(__file__).resolve().parents[2] / "web" / "docs"
SECOND = 16  # frames


def read(path: Path) -> torch.Tensor:
    """[F, H, W, 3], 0..1, reduced to at most 128 rows."""
    with Image.open(path) as picture:
        frames = []
        for frame in ImageSequence.Iterator(picture):
            rgb = frame.convert("RGB")
            scale = max(1, round(rgb.height / 64)) if rgb.height == rgb.width else 1
            rgb = rgb.resize((rgb.width // scale, rgb.height // scale), Image.BOX)
            frames.append(torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8).view(rgb.height, rgb.width, 3))
    return torch.stack(frames).float() / 255


def stretches(frames: int, cuts: Sequence[int] = ()) -> list[int]:
    """First frames of stretches of about a second, none across a cut, and the number of frames."""
    starts: list[int] = []
    for start, stop in itertools.pairwise([0, *cuts, frames]):
        starts += range(start, max(start + 1, stop - SECOND // 2), SECOND)
    return [*starts, frames]


def against(person: LookedAt, broken: torch.Tensor) -> dict[str, list[int]]:
    """Which frames of `broken` [F] the person calls broken too, which not, and which the yardstick misses."""
    found = set(broken.nonzero().flatten().tolist())
    return {
        "hits": sorted(found & person.broken),
        "misses": sorted(person.broken - found),
        "false alarms": sorted(found - person.broken - person.doubtful),
    }


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=1)
    names = sorted(path.stem for path in DOCS.glob("*.webp"))
    arguments.add_argument("--names", nargs="+", choices=names, default=names)
    options = arguments.parse_args()
    with measuring(options) as figures:
        rows, compared, counts = [], [], {}
        for name in options.names:
            video = read(DOCS / f"{name}.webp")
            worst = worst_pair(pair_differences(video))
            broken = find_flicker(video).broken
            flicker = int(broken.sum())
            seen = "-"
            if video.shape[1:3] == (64, 64):
                person = PICTURES.get(name)
                edges = stretches(len(video), person.cuts if person else ())
                read_broken = torch.tensor(_look.broken_frames(video, edges))
                if person and person.frames == len(video):
                    for yardstick, its in (("detector", read_broken), ("flicker", broken)):
                        counts[name, yardstick] = found = against(person, its)
                        compared.append([f"{name}, {yardstick}", *(f"{len(v)}: {v}" for v in found.values())])
                seen, broken = f"{int(read_broken.sum())}", broken | read_broken
            figures[name] = {
                "frames": len(video),
                "worst_pair": vars(worst),
                "flicker": flicker,
                "detector": seen,
                "frozen": find_still(video).share,
                "drift": find_drift(video, SECOND).worst,
            }
            found = figures[name]
            drift = f"{found['drift'][0]} {found['drift'][1]:.2f}"
            worst_cell = f"{worst.difference:.2f} at {worst.frame}"
            rows.append([name, len(video), worst_cell, found["flicker"], seen, f"{100 * found['frozen']:.0f} %", drift])
            if options.images:
                caption = f"{name}: worst pair {worst_cell}, {int(broken.sum())} of {len(video)} frames called broken"
                frame_sheet([video], [caption], options.images / f"picture_{name}.png", [broken])
        print(table(["picture", "frames", "worst pair", "flicker", "detector", "frozen", "worst drift"], rows))
        figures["against a person"] = {f"{name}, {yardstick}": found for (name, yardstick), found in counts.items()}
        rows = []
        for yardstick in ("detector", "flicker"):
            sums = [[len(v) for v in found.values()] for (_, by), found in counts.items() if by == yardstick]
            rows.append([yardstick, *map(sum, zip(*sums, strict=True))])
        if compared:
            print("\n" + table(["frames that a person looked at", "hits", "misses", "false alarms"], rows))
            for name, *lists in compared:
                print(f"{name}: hits {lists[0]}, misses {lists[1]}, false alarms {lists[2]}")


if __name__ == "__main__":
    main()
