"""Does a long rollout keep what it began with? Longreel Sampler in mode rollout, with and without its memories.

    python dev.py bench rollout [--seeds 20] [--chunks 30] [--offset 0] [--ways ...] [--images FOLDER] [--json FILE]

Stories of one object whose movement changes with every chunk of 16 frames (12 where two latent frames are handed over):
the first prompt says everything, the later ones neither the colour nor the background. All stories are rows of one
batch. Per chunk: `color` and `background`, the share of stories in which the detector reads what the first chunk shows
(by chance one in six, and in five); `shape` and `movement`, the share that shows what its prompt says. `drift` is how
far the latent mean and deviation per channel lie from the first chunk's (in the latent's own units). `pace` is that of
the objects that move as they are told, 1 as in the world (demo/detector.py), in the second chunk and in the last fifth
of them; nobody may be left to have one. `seam` is engine/measure/metrics.seam where the first two and the last two
chunks meet. The second table is what a person sees, at all joints, as in `bench blend`. Intervals are by bootstrap over
stories.

Then the cost: processor time (one thread; other work on the machine disturbs it least) per chunk against plain sampling
of the same window by KSampler, in turn in one run.
"""

import random
import statistics
import sys
import time

import torch

from tests.bench_support import call, line_chart, measuring, parser, start_comfyui, story_median, story_percent, table

nodes = start_comfyui()

from comfy_extras.nodes_custom_sampler import BasicScheduler, KSamplerSelect

from longreel.demo import detector, world
from longreel.engine.measure.metrics import seam_score
from longreel.engine.plan.transition_reach import transition_reaches
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.long_memory import LongreelLongMemory
from longreel.nodes.plan import LongreelPlan
from longreel.nodes.sampler import LongreelSampler
from longreel.nodes.short_memory import LongreelShortMemory
from tests.bench import _look
from tests.bench.stories import EVERYTHING

STEPS, CFG = 16, 4.0
WINDOW = 17  # pixel frames: 5 latent frames
LAST_FRAME, OVERLAP = 4, 8  # pixel frames handed over: 1 and 2 latent frames
LATER = ("size", "shape", "motion")
SPREAD_FRAMES = 4  # pixel frames on each side of a border that also belong to the joint
HELD = {"method": "known frames", "shown": "clean", "frames": 0, "strength": 1.0, "decay": 0.0}
READ = {"method": "keys and values", "frames": 2, "strength": 1.0, "decay": 0.0, "layers": "all"}
ANCHOR = {"anchor": "video", "frames": 2, "placement": "before", "strength": 1.0, "layers": "all", "statistics": 0.0}
WAYS = {  # pixel frames handed over, inputs of Longreel Short Memory, of Longreel Long Memory
    "last frame alone": (LAST_FRAME, [], None),
    "short: known frames": (OVERLAP, [HELD], None),
    "short: keys and values": (LAST_FRAME, [READ], None),
    "long: anchor": (LAST_FRAME, [], ANCHOR),
    "both": (OVERLAP, [HELD], ANCHOR),
    "both, statistics 0.5": (OVERLAP, [HELD], {**ANCHOR, "statistics": 0.5}),
}
COSTS = ("last frame alone", "short: keys and values", "long: anchor", "both")


def story(rng: random.Random, chunks: int) -> list[world.Scene]:
    """One object, another movement in each chunk, beginning within a cell of where the last one ended."""
    scenes = [world.random_scene(rng, WINDOW)]
    while len(scenes) < chunks:
        last = scenes[-1]
        x, y = world.track(last.motion, last.x, last.y, last.phase, WINDOW)[-1].tolist()
        open_to = [
            (m, p)
            for m in world.MOTIONS
            if m != last.motion
            for p in world.start_positions(m, WINDOW)
            if max(abs(p[0] - x), abs(p[1] - y)) <= world.CELL
        ]
        if not open_to:  # a dead end: from the beginning
            scenes = [world.random_scene(rng, WINDOW)]
            continue
        motion, (x, y) = rng.choice(open_to)
        scenes.append(world.Scene(last.shape, last.color, last.background, motion, last.size, x, y))
    return scenes


class Bench:
    def __init__(self, numbers: range, chunks: int):
        self.model, self.clip, self.vae = call(LongreelDemoModel)
        (self.sampler,) = call(KSamplerSelect, sampler_name="euler")
        (self.sigmas,) = call(BasicScheduler, model=self.model, scheduler="simple", steps=STEPS, denoise=1.0)
        self.stories = [story(random.Random(77_000 + number), chunks) for number in numbers]

    def plan(self, handed_over: int):
        """Timeline, latent and conditioning of all stories at once: shots of one length, one row for each story."""
        new = WINDOW - 1 - (handed_over - LAST_FRAME)  # pixel frames of a chunk behind the first one
        planned = []
        for scenes in self.stories:
            shots = tuple(
                Shot(world.prompt(scene, LATER if number else EVERYTHING), (new if number else WINDOW) / 16)
                for number, scene in enumerate(scenes)
            )
            board = Storyboard(shots, width=64, height=64, fps=16.0)
            timeline, latent = call(
                LongreelPlan,
                model=self.model,
                storyboard=board,
                width=0,
                height=0,
                segment_frames=WINDOW,
                overlap_frames=handed_over,
                transition_prompts=0,
                steps=STEPS,
                guidance=True,
            )[:2]
            planned.append((timeline, latent, call(LongreelEncode, clip=self.clip, timeline=timeline)))
        conditioning = [
            [
                [torch.cat([entries[side][shot][0] for _, _, entries in planned]), planned[0][2][side][shot][1]]
                for shot in range(len(self.stories[0]))
            ]
            for side in (0, 1)
        ]
        timeline, latent, _ = planned[0]
        rows = {**latent, "samples": latent["samples"].repeat(len(planned), 1, 1, 1, 1)}
        return timeline, rows, conditioning

    def remembering(self, short: list[dict], long: dict | None):
        model = self.model
        for method in short:
            (model,) = call(LongreelShortMemory, model=model, method=method)
        return model if long is None else call(LongreelLongMemory, model=model, **long)[0]

    def sample(self, model, planned, seed: int) -> dict:
        timeline, latent, (positive, negative) = planned
        return call(
            LongreelSampler,
            model=model,
            timeline=timeline,
            positive=positive,
            negative=negative,
            latent=latent,
            sampler=self.sampler,
            sigmas=self.sigmas,
            seed=seed,
            cfg=CFG,
            blend="triangle",
            mode={"mode": "rollout", "run_name": "", "remove_old": False, "low_noise_from": 0.875},
        )[0]

    def decoded(self, latent: dict) -> list[torch.Tensor]:
        """[F, 64, 64, 3] of each story."""
        rows = latent["samples"].split(1)
        return [
            call(nodes.VAEDecode, vae=self.vae, samples={"samples": row})[0].reshape(-1, 64, 64, 3).clamp(0, 1)
            for row in rows
        ]

    def costs(self, rounds: int) -> dict[str, list[float]]:
        """Way -> processor time of one chunk over plain sampling of its window, of each round."""
        chunks = len(self.stories[0])
        ratios: dict[str, list[float]] = {name: [] for name in COSTS}
        works = {name: (self.remembering(*WAYS[name][1:]), self.plan(WAYS[name][0])) for name in COSTS}
        timeline, latent, (positive, negative) = works["last frame alone"][1]
        window = {**latent, "samples": latent["samples"][:, :, : timeline.segment_frames]}
        for number in range(rounds + 1):  # the first round warms up
            started = time.process_time()
            for chunk in range(chunks):
                call(
                    nodes.KSampler,
                    model=self.model,
                    seed=number,
                    steps=STEPS,
                    cfg=CFG,
                    sampler_name="euler",
                    scheduler="simple",
                    positive=positive[chunk : chunk + 1],
                    negative=negative[chunk : chunk + 1],
                    latent_image=window,
                    denoise=1.0,
                )
            plain = time.process_time() - started
            for name, (model, planned) in works.items():
                started = time.process_time()
                self.sample(model, planned, number)
                if number:
                    ratios[name].append((time.process_time() - started) / plain)
        return ratios


def judge(
    stories: list[list[world.Scene]], latent: torch.Tensor, videos: list[torch.Tensor], timeline
) -> dict[str, list]:
    """Measure -> per chunk, of each story (pace: of those that move); looks: of each story."""
    edges = [timeline.facts.first_pixel_frame(shot.end_frame) for shot in timeline.shots]
    ranges = list(zip([0, *edges], edges, strict=False))
    found: dict[str, list] = {
        name: [[] for _ in ranges] for name in ("color", "background", "shape", "movement", "pace", "drift", "seam")
    }
    first = timeline.shots[0]
    reaches = [(r.start, r.stop) for r in transition_reaches(timeline)]
    found["looks"] = [
        vars(_look.look(video, [0, *edges], scenes, reaches)) for scenes, video in zip(stories, videos, strict=True)
    ]
    for scenes, video, rows in zip(stories, videos, latent, strict=False):
        seen = [detector.read_clip(video[start:stop]) for start, stop in ranges]
        start_of = statistics_of(rows[:, first.start_frame : first.end_frame])
        for number, (reading, scene, shot) in enumerate(zip(seen, scenes, timeline.shots, strict=False)):
            found["color"][number].append(reading.color is not None and reading.color == seen[0].color)
            found["background"][number].append(
                reading.background is not None and reading.background == seen[0].background
            )
            found["shape"][number].append(reading.shape == scene.shape)
            found["movement"][number].append(reading.motion == scene.motion)
            if scene.motion.startswith("moves") and reading.direction == scene.motion:
                found["pace"][number].append(reading.pace)
            found["drift"][number].append(
                float((statistics_of(rows[:, shot.start_frame : shot.end_frame]) - start_of).abs().mean())
            )
            if number in (1, len(scenes) - 1):  # a score takes seconds
                found["seam"][number].append(seam_score(video, edges[number - 1], SPREAD_FRAMES))
    return found


def statistics_of(latent: torch.Tensor) -> torch.Tensor:
    """[C, F, H, W] -> [2, C] mean and deviation."""
    return torch.stack([latent.mean((1, 2, 3)), latent.std((1, 2, 3))])


def mean(values: list[float]) -> float:
    return statistics.mean(values) if values else float("nan")


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=20)
    arguments.add_argument("--chunks", type=int, default=30, help="chunks of a story")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of timed runs of 5 chunks; 0 for none")
    arguments.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which ways")
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench = Bench(range(options.offset, options.offset + options.seeds), options.chunks)
        sheets: dict[str, list[tuple]] = {}
        for name in options.ways:
            handed_over, short, long = WAYS[name]
            planned = bench.plan(handed_over)
            latent = bench.sample(bench.remembering(short, long), planned, options.offset)
            videos = bench.decoded(latent)
            figures[name] = judge(bench.stories, latent["samples"], videos, planned[0])
            reaches = [(r.start, r.stop) for r in transition_reaches(planned[0])]
            sheets[name] = [
                (video, f"{name}: {world.prompt(scenes[0], EVERYTHING)}", told["broken"], reaches)
                for video, scenes, told in zip(videos[:10], bench.stories, figures[name]["looks"], strict=False)
            ]
            print(f"{len(figures)} of {len(options.ways)} ways: {name}", file=sys.stderr, flush=True)
        show({name: figures[name] for name in options.ways}, options)
        if options.images:
            _look.sheets(sheets, options.images, "rollout")
            for measure, mark in (("color", 100 / 6), ("background", 100 / 5)):
                line_chart(
                    {name: [100 * mean(values) for values in figures[name][measure]] for name in options.ways},
                    options.images / f"rollout_{measure}.png",
                    f"{measure} of the first chunk kept in chunk 1, 2, ... in % (line: chance)",
                    100.0,
                    mark,
                )
            line_chart(
                {name: [mean(values) for values in figures[name]["drift"]] for name in options.ways},
                options.images / "rollout_drift.png",
                "drift of the latent statistics from the first chunk",
            )
        if options.rounds:
            costs = Bench(range(1), 5).costs(options.rounds)
            print(
                "\n"
                + table(
                    [f"processor time per chunk / KSampler, median of {options.rounds}", "ratio"],
                    [[name, f"{statistics.median(v):.3f} ({min(v):.3f} .. {max(v):.3f})"] for name, v in costs.items()],
                )
            )
            figures["costs"] = costs


def show(figures: dict[str, dict], options) -> None:
    """One row per way: the last chunk, the mean of all later ones, and what is compared with the second."""
    rows = []
    for name, found in figures.items():
        by_story = {m: list(zip(*found[m][1:], strict=True)) for m in ("color", "shape", "movement")}  # later chunks
        last = {measure: [[x] for x in found[measure][-1]] for measure in ("color", "background")}
        # Few stories move in any one chunk, so the pace of the end is that of the last fifth.
        fifth = [x for values in found["pace"][-max(1, options.chunks // 5) :] for x in values]
        rows.append(
            [
                name,
                story_percent(last["color"]),
                story_percent(by_story["color"]),
                story_percent(last["background"]),
                *(story_percent(by_story[m]) for m in ("shape", "movement")),
                mean(found["drift"][-1]),
                mean(found["pace"][1]),
                mean(fifth),
                story_median(list(zip(*(values for values in found["seam"] if values), strict=True))),
            ]
        )
    print(
        table(
            [
                f"{options.seeds} stories of {options.chunks} chunks",
                "colour at the end",
                "all",
                "background at the end",
                "shape",
                "movement",
                "drift",
                "pace 2",
                "pace end",
                "seam",
            ],
            rows,
        )
    )
    looks = {name: [_look.Look(**told) for told in found["looks"]] for name, found in figures.items()}
    print("\n" + table([f"{options.seeds} stories", *_look.TITLES], _look.rows(looks)), flush=True)


if __name__ == "__main__":
    main()
