"""Do the yardsticks see what a person sees? Clips with one known defect each, and clean ones, read by the detector.

    python dev.py bench yardsticks [--seeds 20] [--offset 0] [--kinds ...] [--images FOLDER] [--json FILE]

Every case is a rendered scene of demo/world.py with one defect on top (KINDS). `caught` is how many the detector does
not call right everywhere (demo/detector.py, `Reading.right_everywhere`), `before` how many `agrees` does not call all
right, which is what the tables counted before; `world-blind` how many of the first --blind clips engine/measure calls
broken without knowing the world (worst pair, flicker, still, loop); kinds that do not change in time are not for it.
Clean clips are rendered ones, such as went through the demo model's VAE, and through h264 behind it (crf 19): how many
have broken frames, and how many are not right. Every tenth small star is blue on teal or the like, and the VAE makes a
pentagon of it; once in some hundred clips it tears one. Thresholds were chosen on other seeds than those that are shown
here (CALIBRATED). Then, kind by kind with a size, the smallest one at which 19 of 20 are caught (SIZED).
"""

import dataclasses
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import torch
import torch.nn.functional as F

from longreel.demo import detector, twin, world
from longreel.engine.measure.flicker import find_flicker
from longreel.engine.measure.reach import pair_differences, worst_pair
from longreel.engine.measure.still import find_loop, find_still
from longreel.engine.measure.video_file import write_video
from tests.bench_support import contact_sheet, measuring, parser, table

FRAMES = 17
CALIBRATED = range(5000, 7000)  # seeds on which thresholds were chosen
FIRST = 20_000  # seeds of this table begin here, and --offset counts from it
UNEXPLAINED = 0.2  # worst pair from which a clip is called broken without knowledge of the world


@dataclasses.dataclass(frozen=True)
class Case:
    """A scene, its track, and the random numbers of its defect."""

    scene: world.Scene
    track: torch.Tensor  # [F, 2]
    rng: random.Random

    def paint(self, track: torch.Tensor | None = None, **other: str) -> torch.Tensor:
        """[F, 64, 64, 3]; `other` replaces background, color, shape or size."""
        scene = dataclasses.replace(self.scene, **other)
        one = (scene.shape, scene.color, world.SIZES[scene.size], self.track if track is None else track)
        return world.paint(scene.background, [one]).permute(0, 2, 3, 1).contiguous()

    def another(self, name: str) -> str:
        options = {"color": world.COLORS, "background": world.BACKGROUNDS, "shape": world.SHAPES, "size": world.SIZES}
        return self.rng.choice([o for o in options[name] if o != getattr(self.scene, name)])

    def some(self, frames: int) -> slice:
        """So many frames in a row, wherever."""
        start = self.rng.randrange(1, FRAMES - frames)
        return slice(start, start + frames)

    def beside(self) -> torch.Tensor:
        """The track 26 pixels to the side, above or below: where it stays farthest inside the picture."""
        tracks = [self.track + torch.tensor(by) for by in ((26.0, 0.0), (-26.0, 0.0), (0.0, 26.0), (0.0, -26.0))]
        return max(tracks, key=lambda t: float(torch.minimum(t, world.SIZE_PIXELS - t).min()))


def case(number: int, moving: bool = False) -> Case:
    rng = random.Random(number)
    while True:
        scene = world.random_scene(rng, FRAMES, held_out=bool(number % 2))
        if not moving or scene.motion.startswith("moves"):
            return Case(scene, world.track(scene.motion, scene.x, scene.y, scene.phase, FRAMES), rng)


def mixed(one: torch.Tensor, other: torch.Tensor, frames: slice) -> torch.Tensor:
    video = one.clone()
    video[frames] = other[frames]
    return video


def doubled(c: Case, color: str | None = None, **other: str) -> torch.Tensor:
    scene = dataclasses.replace(c.scene, **other)
    one = (scene.shape, scene.color, world.SIZES[scene.size], c.track)
    second = (scene.shape, color or scene.color, world.SIZES[scene.size], c.beside())
    return world.paint(scene.background, [second, one]).permute(0, 2, 3, 1).contiguous()


def shifted_half(c: Case, pixels: int) -> torch.Tensor:
    """The object in two halves that stand `pixels` apart, cut across its middle in each frame."""
    video = c.paint()
    for frame, y in zip(video, c.track[:, 1].round().int().tolist(), strict=True):
        frame[:y] = frame[:y].roll(pixels, 1)
    return video


def sheared(c: Case, share: float) -> torch.Tensor:
    """Every row is moved by `share` of its distance from the object's middle."""
    video = c.paint()
    for frame, y in zip(video, c.track[:, 1].tolist(), strict=True):
        for row in range(len(frame)):
            frame[row] = frame[row].roll(round(share * (row - y)), 0)
    return video


def shattered(c: Case, pixels: int = 7) -> torch.Tensor:
    """Blocks of 6 x 6 pixels around the object, each moved somewhere else."""
    video = c.paint()
    clean = video.clone()
    for t, (x, y) in enumerate(c.track.round().int().tolist()):
        for top in range(max(0, y - 15), min(58, y + 15), 6):
            for left in range(max(0, x - 15), min(58, x + 15), 6):
                to_top = min(58, max(0, top + c.rng.randint(-pixels, pixels)))
                to_left = min(58, max(0, left + c.rng.randint(-pixels, pixels)))
                video[t, to_top : to_top + 6, to_left : to_left + 6] = clean[t, top : top + 6, left : left + 6]
    return video


def holed(c: Case, radius: float) -> torch.Tensor:
    """A hole in the object's middle."""
    away = world.coverage("circle", c.track, radius).unsqueeze(-1)
    return c.paint() * (1 - away) + away * torch.tensor(world.BACKGROUNDS[c.scene.background])


def faded(c: Case, share: float) -> torch.Tensor:
    """The object lets `share` of the background through."""
    empty = torch.tensor(world.BACKGROUNDS[c.scene.background]).expand(FRAMES, 64, 64, 3)
    return c.paint() * (1 - share) + share * empty


def gone(c: Case) -> torch.Tensor:
    return faded(c, 1.0)


def blurred(c: Case, pixels: int) -> torch.Tensor:
    return F.avg_pool2d(c.paint().permute(0, 3, 1, 2), pixels, 1, pixels // 2, count_include_pad=False).permute(
        0, 2, 3, 1
    )


def noisy(c: Case, side: int = 12) -> torch.Tensor:
    """A patch of noise that stays where it is."""
    video, generator = c.paint(), torch.Generator().manual_seed(c.rng.randrange(10**6))
    y, x = c.rng.randrange(64 - side), c.rng.randrange(64 - side)
    video[:, y : y + side, x : x + side] = torch.rand(FRAMES, side, side, 3, generator=generator)
    return video


def half_another_background(c: Case) -> torch.Tensor:
    """The right half of the picture shows another background."""
    video = c.paint()
    video[:, :, 32:] = c.paint(background=c.another("background"))[:, :, 32:]
    return video


def teleported(c: Case, pixels: float) -> torch.Tensor:
    """From some frame on the object is elsewhere, towards the middle of the picture."""
    start = c.rng.randrange(3, FRAMES - 3)
    sideways = c.scene.motion in ("moves left", "moves right")
    axis = 1 if sideways else 0  # across the movement
    track = c.track.clone()
    track[start:, axis] += pixels if float(track[start, axis]) < 32 else -pixels
    return c.paint(track)


def paced(c: Case, pace: float) -> torch.Tensor:
    """At another pace, around the middle of the track."""
    middle = c.track.mean(0)
    return c.paint(middle + pace * (c.track - middle))


def stalled(c: Case, frames: int) -> torch.Tensor:
    """The video stands for some frames and goes on where it is then."""
    at = c.some(frames)
    order = torch.arange(FRAMES)
    order[at] = at.start
    order[at.stop :] = at.start + torch.arange(1, FRAMES - at.stop + 1)
    return c.paint()[order]


def looping(c: Case, period: int) -> torch.Tensor:
    return c.paint()[torch.arange(FRAMES) % period]


def left_and_another_came(c: Case) -> torch.Tensor:
    """For five frames nothing is there; then another object is."""
    video = mixed(c.paint(), gone(c), slice(6, 11))
    return mixed(video, c.paint(color=c.another("color"), shape=c.another("shape")), slice(11, FRAMES))


Kind = Callable[[Case], torch.Tensor]
KINDS: dict[str, Kind] = {
    "doubled in all frames": doubled,
    "doubled in 5 frames": lambda c: mixed(c.paint(), doubled(c), c.some(5)),
    "doubled in 3 frames": lambda c: mixed(c.paint(), doubled(c), c.some(3)),
    "doubled in 1 frame": lambda c: mixed(c.paint(), doubled(c), c.some(1)),
    "second object, other colour": lambda c: doubled(c, c.another("color")),
    "second object for 2 frames": lambda c: mixed(c.paint(), doubled(c, c.another("color")), c.some(2)),
    "shape changes half way": lambda c: mixed(c.paint(), c.paint(shape=c.another("shape")), slice(9, FRAMES)),
    "shape changes for 3 frames": lambda c: mixed(c.paint(), c.paint(shape=c.another("shape")), c.some(3)),
    "size changes half way": lambda c: mixed(c.paint(), c.paint(size=c.another("size")), slice(9, FRAMES)),
    "size changes for 3 frames": lambda c: mixed(c.paint(), c.paint(size=c.another("size")), c.some(3)),
    "the other size": lambda c: c.paint(size=c.another("size")),
    "colour changes half way": lambda c: mixed(c.paint(), c.paint(color=c.another("color")), slice(9, FRAMES)),
    "colour changes for 2 frames": lambda c: mixed(c.paint(), c.paint(color=c.another("color")), c.some(2)),
    "background changes half way": lambda c: mixed(
        c.paint(), c.paint(background=c.another("background")), slice(9, FRAMES)
    ),
    "background flashes for 1 frame": lambda c: mixed(
        c.paint(), c.paint(background=c.another("background")), c.some(1)
    ),
    "half another background, 3 frames": lambda c: mixed(c.paint(), half_another_background(c), c.some(3)),
    "half another background, all": half_another_background,
    "torn in two by 7 pixels, 2 frames": lambda c: mixed(c.paint(), shifted_half(c, 7), c.some(2)),
    "sheared by a half, 3 frames": lambda c: mixed(c.paint(), sheared(c, 0.5), c.some(3)),
    "shattered in 1 frame": lambda c: mixed(c.paint(), shattered(c), c.some(1)),
    "a hole of radius 6, 2 frames": lambda c: mixed(c.paint(), holed(c, 6.0), c.some(2)),
    "half transparent, all": lambda c: faded(c, 0.5),
    "half transparent, 3 frames": lambda c: mixed(c.paint(), faded(c, 0.5), c.some(3)),
    "gone for 1 frame": lambda c: mixed(c.paint(), gone(c), c.some(1)),
    "gone from half way on": lambda c: mixed(c.paint(), gone(c), slice(9, FRAMES)),
    "leaves, another comes": left_and_another_came,
    "teleports by 6 pixels": lambda c: teleported(c, 6.0),
    "teleports by 10 pixels": lambda c: teleported(c, 10.0),
    "teleports by 20 pixels": lambda c: teleported(c, 20.0),
    "noise, 12 x 12 pixels, 2 frames": lambda c: mixed(c.paint(), noisy(c), c.some(2)),
    "blurred over 9 pixels, 3 frames": lambda c: mixed(c.paint(), blurred(c, 9), c.some(3)),
}
MOVING: dict[str, Kind] = {  # of scenes that move in one direction
    "half the pace": lambda c: paced(c, 0.5),
    "one and a half the pace": lambda c: paced(c, 1.5),
    "frozen": lambda c: c.paint()[:1].expand(FRAMES, -1, -1, -1),
    "stalls for 4 frames": lambda c: stalled(c, 4),
    "loops every 6 frames": lambda c: looping(c, 6),
    "backwards": lambda c: c.paint().flip(0),
}
SIZED: dict[str, tuple[tuple[float, ...], Callable[[Case, float], torch.Tensor], bool]] = {  # sizes; moving scenes
    "teleport, pixels": ((2, 3, 4, 5, 6, 8), teleported, False),
    "torn in 2 frames by, pixels": (
        (2, 3, 4, 5, 6, 8), lambda c, x: mixed(c.paint(), shifted_half(c, int(x)), c.some(2)), False),
    "sheared in 3 frames by, share": (
        (0.1, 0.2, 0.3, 0.4, 0.5), lambda c, x: mixed(c.paint(), sheared(c, x), c.some(3)), False),
    "hole in 2 frames, radius in pixels": (
        (1, 2, 3, 4, 5, 6), lambda c, x: mixed(c.paint(), holed(c, x), c.some(2)), False),
    "transparent in 3 frames, share": (
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), lambda c, x: mixed(c.paint(), faded(c, x), c.some(3)), False),
    "noise in 2 frames, side in pixels": (
        (2, 4, 6, 8, 10, 12), lambda c, x: mixed(c.paint(), noisy(c, int(x)), c.some(2)), False),
    "blur in 3 frames, pixels": (
        (3, 5, 7, 9, 11), lambda c, x: mixed(c.paint(), blurred(c, int(x)), c.some(3)), False),
    "faster pace": ((1.1, 1.2, 1.3, 1.4, 1.5), paced, True),
    "slower pace": ((0.9, 0.8, 0.7, 0.6, 0.5), paced, True),
    "stall, frames": ((2, 3, 4, 5), lambda c, x: stalled(c, int(x)), True),
}  # fmt: skip


def numbered(kind: str, number: int) -> Case:
    """Case `number` of a kind: each kind has other scenes."""
    return case(FIRST + number + 1000 * (sorted({**KINDS, **MOVING, **SIZED, "clean": 0}).index(kind)), kind in MOVING)


def caught(c: Case, video: torch.Tensor) -> tuple[bool, bool]:
    """Whether the detector does not call it right everywhere; `agrees` not all right."""
    reading = detector.read_clip(video.clamp(0, 1))
    return not reading.right_everywhere(c.scene), not reading.agrees(c.scene)["all"]


def caught_blindly(c: Case, video: torch.Tensor) -> bool:
    """Whether engine/measure calls it broken: an unexplained pair, flicker, a still or looping video."""
    video = video.clamp(0, 1)
    return (
        worst_pair(pair_differences(video)).difference > UNEXPLAINED
        or bool(find_flicker(video).broken.any())
        or (c.scene.motion != "stays still" and find_still(video).share > 0.5)
        or (c.scene.motion != "bounces" and find_loop(video) is not None)
    )


def through_h264(video: torch.Tensor, crf: int = 19) -> torch.Tensor:
    """The frames as an .mp4 holds them."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_video([video], Path(folder), "clip", 1, 16.0, crf)
        with av.open(str(written.path)) as container:
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return torch.stack(frames).float() / 255


def clean_clips(seeds: int, offset: int) -> dict[str, list[tuple[Case, torch.Tensor]]]:
    """Rendered scenes; the same through the demo model's VAE; and through h264 behind it."""
    vae = twin.vae()  # as ComfyUI's own decodes (tests/demo/test_nets_match_comfyui.py)
    found: dict[str, list[tuple[Case, torch.Tensor]]] = {"rendered": [], "VAE": [], "VAE, h264": []}
    for number in range(offset, offset + seeds):
        c = numbered("clean", number)
        with torch.no_grad():
            pixels = c.paint().permute(3, 0, 1, 2)[None] * 2 - 1  # [1, 3, F, H, W]
            decoded = (vae.decode(vae.moments(pixels)[0])[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).contiguous()
        for name, video in zip(found, (c.paint(), decoded, through_h264(decoded)), strict=True):
            found[name].append((c, video))
    return found


def first_seen(kind: str, seeds: int, offset: int) -> dict[float, int]:
    """Size -> how many of `seeds` are caught."""
    sizes, make, moving = SIZED[kind]
    cases = [numbered(kind, n) for n in range(offset, offset + seeds)]
    if moving:
        cases = [case(FIRST + 500 + n, moving=True) for n in range(offset, offset + seeds)]
    found = dict.fromkeys(sizes, 0)
    for number, c in enumerate(cases):
        for size in sizes:
            video = make(dataclasses.replace(c, rng=random.Random(number)), size)  # the same place at every size
            found[size] += not detector.read_clip(video.clamp(0, 1)).right_everywhere(c.scene)
    return found


def verdicts(clips: list[tuple[Case, torch.Tensor]], blind: int, figures: dict, name: str) -> list:
    """Cells of a row: caught, before, world-blind; the figures get them under `name`."""
    now, before = (sum(v) for v in zip(*(caught(c, video) for c, video in clips), strict=True))
    unseen = sum(caught_blindly(c, video) for c, video in clips[:blind])
    figures[name] = {"clips": len(clips), "caught": now, "before": before, "world_blind": unseen, "of": blind}
    return [now, before, f"{unseen} of {min(blind, len(clips))}" if blind else "-"]


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=20)
    every = {**KINDS, **MOVING}
    arguments.add_argument("--kinds", nargs="*", choices=list(every), default=list(every))
    arguments.add_argument("--blind", type=int, default=5, help="clips of a kind that engine/measure sees too")
    options = arguments.parse_args()
    with measuring(options) as figures:
        rows, shown, captions = [], [], []
        for kind in options.kinds:
            cases = [numbered(kind, n) for n in range(options.offset, options.offset + options.seeds)]
            videos = [every[kind](c) for c in cases]
            rows.append([kind, *verdicts(list(zip(cases, videos, strict=True)), options.blind, figures, kind)])
            shown.append(videos[0])
            captions.append(kind)
        print(table([f"defect, {options.seeds} clips each", "caught", "before", "world-blind"], rows), flush=True)
        rows = []
        for name, clips in clean_clips(options.seeds, options.offset).items():
            broken = sum(bool(detector.read_clip(video).broken.any()) for _, video in clips)
            rows.append([name, broken, *verdicts(clips, options.blind, figures, f"clean, {name}")])
            figures[f"clean, {name}"]["broken"] = broken
        titles = [f"{options.seeds} clean clips", "broken frames", "not right", "before", "world-blind"]
        print("\n" + table(titles, rows), flush=True)
        rows = []
        for kind in SIZED:
            seen = first_seen(kind, options.seeds, options.offset)
            figures[f"first seen: {kind}"] = seen
            least = next((s for s, n in seen.items() if n >= 0.95 * options.seeds), "-")
            rows.append([kind, least, ", ".join(f"{s:g}: {n}" for s, n in seen.items())])
        print("\n" + table(["first seen (19 of 20)", "size", "caught by size"], rows))
        if options.images:
            contact_sheet(shown, captions, options.images / "yardsticks.png", every=1)


if __name__ == "__main__":
    main()
