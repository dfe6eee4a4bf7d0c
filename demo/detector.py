"""Reads shape world back: which background, colour, shape, size and motion does a clip show, and where is the object?

Colours are read against the palette of demo/world.py from solid pixels only, so that blurred edges do not vote. The
shape is the template (4 shapes, both sizes a little smaller and larger) that overlaps best with the object's soft
mask, at any position, also half outside the picture. The motion is the ideal track of the world that lies nearest to
the template's track. Whatever cannot be read is None, never a guess: a clip of noise has no background, an empty one
no colour. It reads one object; of several it sees the one with the most pixels.

Which of the frames do not show what the clip does, and are broken, is judged one by one (demo/frame_check.py); how
many objects each one holds is counted. Direction and pace are told apart: `motion` is right only at the world's own
pace, `direction` at any. `agrees` asks for the clip as a whole, as it always did; `right_everywhere` for every frame.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F

from . import frame_check, world

SOLID = 0.2  # distance in RGB below which a pixel counts as having a palette colour
BACKGROUND_LEAST = 0.3  # share of the pixels that must be background
COLOR_LEAST = 0.5  # share of the solid object pixels that must have the winning colour
PIXELS_LEAST = 24.0  # mask pixels (sum of coverage) below which a frame has no object
SHAPE_LEAST = 0.72  # mean overlap 0..1 with the best template
SHAPE_MARGIN_LEAST = 0.005  # how much better than the next shape
MOTION_PIXELS_MOST = 2.5  # root mean square distance from the ideal track
MOTION_FRAMES_LEAST = 5
STILL_PIXELS = 1.5  # root mean square distance from its mean place up to which an object stays still
PACE_LEAST = 0.2  # of the world's, below which nothing moves
PACE_RIGHT = 0.75, 1.25  # of the world's
SCALES = (0.88, 1.0, 1.12)
ROUNDING_PIXELS, ROUNDING_SLOPE = 2, 2.0  # standard deviation of a blur, and the contrast behind it
_MARGIN = 16  # pixels around the picture where a template's centre may still lie
_PADDED = 108  # pixels: the picture, _MARGIN and the largest template fit without meeting themselves around the edge


@dataclass(frozen=True)
class Reading:
    """What one clip shows; None where it cannot be told. Confidences are 0..1.

    `positions` [F, 2] (x, y) in pixels is the object's centre per frame (NaN where absent), `present` [F] bool.
    `shape_overlap` is the mean overlap with the best template, `motion_error_pixels` the distance from its track.
    `broken` [F] bool says which frames do not show what the clip does, `faults` why (demo/frame_check.py; empty where
    nothing could be read, and then all are broken), `objects` [F] how many each frame holds. `direction` is the
    movement at any pace, a word of world.MOTIONS, and `pace` how fast it is, 1 as in the world.
    """

    background: str | None
    color: str | None
    shape: str | None
    size: str | None
    motion: str | None
    background_confidence: float
    color_confidence: float
    shape_confidence: float
    motion_confidence: float
    shape_overlap: float
    motion_error_pixels: float
    positions: torch.Tensor
    present: torch.Tensor
    broken: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    faults: dict[str, torch.Tensor] = field(default_factory=dict)
    objects: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int32))
    direction: str | None = None
    pace: float = math.nan

    @property
    def object_present(self) -> bool:
        """True if an object is there in every frame."""
        return self.color is not None and bool(self.present.all())

    @property
    def broken_picture(self) -> torch.Tensor:
        """[F] bool: `broken` but for the object's place, which a change of prompt moves within a shot."""
        if not self.faults:
            return self.broken
        return torch.stack([fault for name, fault in self.faults.items() if name != "place"]).any(0)

    def agrees(self, scene: world.Scene) -> dict[str, bool]:
        """Attribute -> is it what the scene asks for? `motion` is left out for a single frame; `all` is the sum."""
        names = ["background", "color", "shape"] + (["motion"] if len(self.present) > 1 else [])
        right = {name: getattr(self, name) == getattr(scene, name) for name in names}
        right["color"] = right["color"] and self.object_present
        return {**right, "all": all(right.values())}

    def right_everywhere(self, scene: world.Scene, size_said: bool = True) -> bool:
        """Is every frame what the scene asks for: the clip's attributes, its size if it was said, its pace, one object
        and no broken frame?"""
        paced = scene.motion == "stays still" or PACE_RIGHT[0] <= self.pace <= PACE_RIGHT[1]
        return (
            self.agrees(scene)["all"]
            and (self.size == scene.size or not size_said)
            and (paced or len(self.present) == 1)
            and not bool(self.broken.any())
            and bool((self.objects == 1).all())
        )


def read_clip(video: torch.Tensor) -> Reading:
    """Video [F, 64, 64, 3], 0..1 -> Reading. Raises ValueError for another shape."""
    size = world.SIZE_PIXELS
    if video.ndim != 4 or video.shape[1:] != (size, size, 3) or video.shape[0] == 0:
        raise ValueError(f"the detector reads [F, {size}, {size}, 3], got {list(video.shape)}; scale the frames first")
    video = video.float().clamp(0, 1).cpu()
    frames = video.shape[0]
    background, background_share = read_background(video)
    color, color_share, mask = None, 0.0, torch.zeros(frames, size, size)
    if background is not None:
        color, color_share, mask = _read_color(video, background)
    present = mask.sum((1, 2)) >= PIXELS_LEAST  # [F]
    if color is None or not present.any():
        nowhere = torch.full((frames, 2), math.nan)
        return Reading(
            background,
            None,
            None,
            None,
            None,
            background_share,
            color_share,
            0.0,
            0.0,
            0.0,
            math.inf,
            nowhere,
            torch.zeros(frames, dtype=torch.bool),
            torch.ones(frames, dtype=torch.bool),
            {},
            torch.zeros(frames, dtype=torch.int32)
            if background is None
            else frame_check.count_objects(video, background),
        )
    overlaps, places = _overlaps(mask)  # [F, K], [F, K, 2]
    means = overlaps[present].mean(0)
    by_shape = torch.stack([means[[k for k, t in enumerate(_TEMPLATES) if t[0] == s]].max() for s in world.SHAPES])
    best = int(means.argmax())
    overlap, margin = float(means[best]), float(by_shape.max() - by_shape.topk(2).values[1])
    readable = overlap >= SHAPE_LEAST and margin >= SHAPE_MARGIN_LEAST
    positions = places[:, best].clone()
    positions[~present] = math.nan
    motion, error = read_motion(positions)
    direction, pace, ideal = read_direction(positions)
    seen = frame_check.Seen(background, color, _TEMPLATES, overlaps, places, mask, best, present, positions, ideal)
    faults = frame_check.faults(video, seen)
    return Reading(
        background,
        color,
        _TEMPLATES[best][0] if readable else None,
        _TEMPLATES[best][1] if readable else None,
        motion,
        background_share,
        color_share,
        overlap * min(1.0, margin / 0.05),
        max(0.0, 1 - error / MOTION_PIXELS_MOST),
        overlap,
        error,
        positions,
        present,
        torch.stack(list(faults.values())).any(0),
        faults,
        frame_check.count_objects(video, background),
        direction,
        pace,
    )


def read_motion(positions: torch.Tensor) -> tuple[str | None, float]:
    """Track [F, 2] in pixels (NaN = absent) -> nearest motion of the world and its error in pixels (rms).

    None for fewer than five frames with an object, or when every ideal track is more than 2.5 pixels away. A bounce
    that is seen for less than half its period can look like a straight movement.
    """
    seen = ~positions.isnan().any(1)
    if int(seen.sum()) < MOTION_FRAMES_LEAST:
        return None, math.inf
    best, best_error = None, math.inf
    for motion in world.MOTIONS:
        for phase in [p / 32 for p in range(32)] if motion == "bounces" else [0.0]:
            away = (positions - world.track(motion, 0.0, 0.0, phase, len(positions)))[seen]
            error = float((away - away.mean(0)).square().sum(1).mean().sqrt())
            if error < best_error:
                best, best_error = motion, error
    return (best if best_error <= MOTION_PIXELS_MOST else None), best_error


def read_direction(positions: torch.Tensor) -> tuple[str | None, float, torch.Tensor | None]:
    """Track [F, 2] in pixels (NaN = absent) -> motion of the world that it follows at any pace, that pace over the
    world's (0 for what stays still), and its ideal track [F, 2] at that pace, up to an offset.

    (None, NaN, None) for fewer than five frames with an object, or when no track is within 2.5 pixels (rms).
    """
    seen = ~positions.isnan().any(1)
    if int(seen.sum()) < MOTION_FRAMES_LEAST:
        return None, math.nan, None
    centred = positions - positions[seen].mean(0)
    best, best_error, best_pace, best_track = None, MOTION_PIXELS_MOST, math.nan, None
    spread = float(centred[seen].square().sum(1).mean().sqrt())
    if spread <= STILL_PIXELS:
        return "stays still", 0.0, torch.zeros_like(positions)
    for motion in world.MOTIONS:
        for phase in [p / 32 for p in range(32)] if motion == "bounces" else [0.0]:
            track = world.track(motion, 0.0, 0.0, phase, len(positions))
            track = track - track[seen].mean(0)
            energy = float(track[seen].square().sum())
            pace = float((centred * track)[seen].sum()) / energy if energy > 0 else 0.0
            error = float((centred - pace * track)[seen].square().sum(1).mean().sqrt())
            if pace >= PACE_LEAST and error < best_error:
                best, best_error, best_pace, best_track = motion, error, pace, pace * track
    return best, best_pace, best_track


def color_shares(video: torch.Tensor) -> dict[str, float]:
    """Video [F, H, W, 3], 0..1 -> share of all pixels that solidly have each object colour."""
    solid = _distances(video.float(), world.COLORS) < SOLID
    return {name: float(solid[..., i].float().mean()) for i, name in enumerate(world.COLORS)}


def _distances(video: torch.Tensor, palette: dict[str, tuple[float, float, float]]) -> torch.Tensor:
    """[F, H, W, 3] -> [F, H, W, N] Euclidean distance in RGB."""
    return (video.unsqueeze(-2) - torch.tensor(list(palette.values()))).square().sum(-1).sqrt()


def read_background(video: torch.Tensor) -> tuple[str | None, float]:
    """The background whose pixels are most: nearest of all eleven colours, and near."""
    everything = {**world.BACKGROUNDS, **world.COLORS}
    nearest = _distances(video, everything).min(-1)
    votes = torch.where(nearest.values < SOLID, nearest.indices, len(everything))
    shares = torch.bincount(votes.flatten(), minlength=len(everything) + 1).float() / votes.numel()
    best = int(shares[: len(world.BACKGROUNDS)].argmax())
    share = float(shares[best])
    return (list(world.BACKGROUNDS)[best] if share >= BACKGROUND_LEAST else None), share


def _read_color(video: torch.Tensor, background: str) -> tuple[str | None, float, torch.Tensor]:
    """Colour of the object, its share of the solid object pixels, and its soft mask [F, H, W] in 0..1."""
    names = list(world.COLORS)
    nearest = _distances(video, world.COLORS).min(-1)
    away = (video - torch.tensor(world.BACKGROUNDS[background])).square().sum(-1).sqrt()  # [F, H, W]
    solid = (nearest.values < SOLID) & (nearest.values < away)
    votes = torch.bincount(nearest.indices[solid], minlength=len(names)).float()
    share = float(votes.max() / votes.sum().clamp(min=1))
    if votes.max() < PIXELS_LEAST * 0.25 * len(video) or share < COLOR_LEAST:
        return None, share, torch.zeros(video.shape[:3])
    color = names[int(votes.argmax())]
    start, end = torch.tensor(world.BACKGROUNDS[background]), torch.tensor(world.COLORS[color])
    line = end - start
    along = ((video - start) @ line) / line.square().sum()  # 0 background .. 1 object
    astray = (video - start - along.unsqueeze(-1) * line).square().sum(-1).sqrt()  # another colour altogether
    return color, share, along.clamp(0, 1) * (astray < 0.25) * (along > 0.15)


_SHARP = [(shape, size, scale) for shape in world.SHAPES for size in world.SIZES for scale in SCALES]
_TEMPLATES = _SHARP * 2  # as rendered, and as a VAE rounds them


def _rounded(masks: torch.Tensor) -> torch.Tensor:
    """Coverage [K, H, W] -> the same with corners cut and valleys filled, as the demo model's VAE decodes it."""
    reach = torch.arange(-3 * ROUNDING_PIXELS, 3 * ROUNDING_PIXELS + 1)
    kernel = torch.exp(-(reach**2) / (2 * ROUNDING_PIXELS**2))
    kernel = kernel / kernel.sum()
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        masks = F.conv2d(masks[:, None], kernel.view(shape), padding="same")[:, 0]
    return (0.5 + ROUNDING_SLOPE * (masks - 0.5)).clamp(0, 1)


@lru_cache(maxsize=1)
def _template_spectra() -> tuple[torch.Tensor, torch.Tensor]:
    """Fourier transforms [K, N, N/2+1] of all templates (conjugate), and [K, P, P] template energy inside the picture
    for every centre from -_MARGIN to SIZE + _MARGIN, half outside included; N is _PADDED, P counts those centres."""
    centre = torch.full((1, 2), world.SIZE_PIXELS / 2)
    masks = torch.stack([world.coverage(s, centre, world.SIZES[z] * scale)[0] for s, z, scale in _SHARP])
    masks = torch.cat([masks, _rounded(masks)])
    first = -(world.SIZE_PIXELS // 2 + _MARGIN)  # so that place 0 of a correlation is the centre -_MARGIN
    padded = torch.roll(_pad(masks), (first, first), (-2, -1))
    inside = torch.fft.rfft2(_pad(torch.ones(world.SIZE_PIXELS, world.SIZE_PIXELS)))
    return torch.fft.rfft2(padded).conj(), _correlate(inside, torch.fft.rfft2(padded.square()).conj()).clone()


def _pad(picture: torch.Tensor) -> torch.Tensor:
    more = _PADDED - world.SIZE_PIXELS
    return F.pad(picture, (0, more, 0, more))


def _correlate(spectrum: torch.Tensor, spectra: torch.Tensor) -> torch.Tensor:
    """Spectrum [N, N/2+1] of a picture, of templates [K, N, N/2+1] (conjugate) -> [K, P, P] by centre."""
    centres = world.SIZE_PIXELS + 2 * _MARGIN + 1
    return torch.fft.irfft2(spectrum * spectra, s=(_PADDED, _PADDED))[..., :centres, :centres]


def _overlaps(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask [F, H, W] -> best overlap [F, K] per template, a.b / (a.a + b.b - a.b), and its centre [F, K, 2] (x, y)."""
    spectra, energy = _template_spectra()
    overlaps, places = [], []
    for frame in mask:  # one frame at a time: [K, P, P] is all that is ever held
        common = _correlate(torch.fft.rfft2(_pad(frame)), spectra)  # [K, P, P]
        score = common / (energy - common).add_(frame.square().sum()).clamp_(min=1.0)
        best = score.flatten(1).max(1)
        row, column = best.indices // score.shape[-1], best.indices % score.shape[-1]
        x = column + _refine(score, row, column, 0, 1) - _MARGIN
        y = row + _refine(score, row, column, 1, 0) - _MARGIN
        overlaps.append(best.values)
        places.append(torch.stack([x, y], -1))
    return torch.stack(overlaps), torch.stack(places)


def _refine(score: torch.Tensor, row: torch.Tensor, column: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Sub-pixel offset of the maximum by a parabola through three neighbours, [K] in -0.5..0.5."""
    k, last = torch.arange(len(row)), score.shape[-1] - 1
    before = score[k, (row - down).clamp(min=0), (column - right).clamp(min=0)]
    after = score[k, (row + down).clamp(max=last), (column + right).clamp(max=last)]
    bend = before + after - 2 * score[k, row, column]
    return torch.where(bend < -1e-6, 0.5 * (before - after) / bend, torch.zeros_like(bend)).clamp(-0.5, 0.5)
