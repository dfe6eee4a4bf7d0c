"""Judges every frame of a clip of the picture book: is it what the clip as a whole shows, or is it broken?

After the rules of demo/frame_check.py, for drawings: the clip's place and things, each at its place in this frame,
are drawn, and the frame is held against that. Beyond BAND pixels around the things there has to be the place (`stray`
counts what is not: another thing, splinters, a flash of another place, noise); well inside of a thing its smoothed
colours (`holes`: tears, another coat, another drawing); each thing has to be there at all (`absent`), explained about
as well as in the clip's median frame (`outline`), and where its movement takes it (`place`). What is smaller than the
thresholds goes unseen on purpose.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

BAND = 3  # pixels around a thing that may be anything
EDGE = 2  # pixels from an edge of the place within which either side's colour will do
OFF_PLACE, OFF_THING = 0.2, 0.35  # distances in RGB from which a pixel, or a smoothed one of a thing, is something else
STRAY, HOLES = 20, 24  # pixels
SMOOTH = 5  # pixels
OUTLINE = 0.2  # share of a thing's energy that is explained less than in the clip's median frame
ASTRAY = 3.5  # pixels away from where the clip's movement takes the thing


@dataclass(frozen=True)
class Seen:
    """What the reader made of a clip of F frames with N things.

    `place` [3, H, W]; `drawn` [F, 3, H, W], place and things as they were found; `cover` [F, H, W] 0..1, where things
    are; `explained` [F, N] 0..1, NaN where absent; `positions` [F, N, 2]; `ideal` N tracks [F, 2] up to an offset, None
    where no movement was read.
    """

    place: torch.Tensor
    drawn: torch.Tensor
    cover: torch.Tensor
    explained: torch.Tensor
    positions: torch.Tensor
    ideal: tuple[torch.Tensor | None, ...]


def faults(video: torch.Tensor, seen: Seen) -> dict[str, torch.Tensor]:
    """Video [F, 3, H, W] in 0..1 -> what is wrong -> [F] bool."""
    there = seen.explained.nan_to_num(0.0)
    typical = seen.explained.nanmedian(0).values.nan_to_num(1.0)
    picture = {
        "absent": seen.explained.isnan().any(1),
        "stray": stray(video, seen) > STRAY,
        "holes": holes(video, seen) > HOLES,
        "outline": (there < typical - OUTLINE).any(1),
    }
    broken = torch.stack(list(picture.values())).any(0)
    away = torch.zeros(len(video))
    for number, ideal in enumerate(seen.ideal):
        if ideal is None:
            continue
        positions = seen.positions[:, number].clone()
        positions[broken] = torch.nan
        off = positions - ideal
        away = torch.maximum(away, (off - off.nanmedian(0).values).norm(dim=1).nan_to_num(0.0))
    return {**picture, "place": away > ASTRAY}


def stray(video: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Pixels far from every thing that are not the place, [F]."""
    near = F.max_pool2d((seen.cover > 0.1).float()[:, None], 2 * BAND + 1, 1, BAND)[:, 0] > 0
    around = F.pad(seen.place[None], (EDGE,) * 4, mode="replicate")  # edges of the place may be soft
    darkest, lightest = (sign * F.max_pool2d(sign * around, 2 * EDGE + 1, 1)[0] for sign in (-1, 1))
    away = video - torch.minimum(torch.maximum(video, darkest), lightest)
    strange = away.square().sum(1).sqrt() > OFF_PLACE
    return (strange & ~near).sum((1, 2))


def holes(video: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Pixels well inside of things whose smoothed colour is another one, [F]."""
    inside = -F.max_pool2d(-(seen.cover > 0.9).float()[:, None], 3, 1, 1)[:, 0] > 0
    smooth = [F.avg_pool2d(t, SMOOTH, 1, SMOOTH // 2, count_include_pad=False) for t in (video, seen.drawn)]
    other = (smooth[0] - smooth[1]).square().sum(1).sqrt() > OFF_THING
    return (other & inside).sum((1, 2))
