"""Does a later shot still show the object of the first one when its prompt does not say the colour?

    python dev.py bench kv_share [--seeds 40] [--offset 0] [--transition blend cut] [--images FOLDER] [--json FILE]

Storyboards of three shots on the demo model: one object, three movements; only the first prompt says the colour.
`recall` is the share of the later shots in which the detector reads the colour of the first shot as it was painted; by
chance it is one in six. Beside it: shots that show the movement and the shape of their prompt, and the seam score of
the worse joint (engine/measure/metrics.seam; about 1 is what the shots themselves do; cut shots meet in a cut, so it is
high for them on purpose). The second table is what a person sees, as in `bench blend`: joints over their reach, the
worst pair, broken frames, direction and pace. Intervals are by bootstrap over storyboards. `as published` are DiTCtrl's
settings: mode paper, the segment before, replaced, frame on frame, text too, last sixth of the blocks, 4 to 50 % of the
schedule.

Then the cost: wall time and peak memory of one sampling against the model without the node, in turn in one run.
"""

import random
import statistics
import time

import torch

from tests.bench_support import bar_chart, call, measuring, parser, start_comfyui, story_median, story_percent, table

nodes = start_comfyui()

import itertools

from longreel.demo import detector
from longreel.engine.measure.metrics import seam_score
from longreel.engine.plan.transition_reach import transition_reaches
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.kv_share import LongreelKVShare
from longreel.nodes.latent_blend import LongreelLatentBlend
from longreel.nodes.plan import LongreelPlan
from tests.bench import _look
from tests.bench.stories import EVERYTHING, SHOTS, continuous_motions, storyboard

SEGMENT_FRAMES, OVERLAP_FRAMES = 17, 8  # pixel frames: 5 and 2 latent frames
STEPS, CFG = 16, 4.0
SPREAD_FRAMES = 4  # pixel frames on each side of the boundary that also belong to the joint: one latent frame
PUBLISHED = {
    "mode": "paper",
    "source": {"source": "previous"},
    "shots": "",
    "across_cuts": True,
    "join": "replace",
    "placement": "aligned",
    "strength": 1.0,
    "share_text": True,
    "layers": "last 1/6",
    "start_percent": 0.04,
    "end_percent": 0.5,
    "mask": {"mask": "off"},
}
WORDS = {"mask": "words", "words": "", "threshold": 0.3}
REMEMBER = {
    **PUBLISHED,
    "mode": "fast",
    "source": {"source": "first"},
    "join": "extend",
    "placement": "before",
    "share_text": False,
    "layers": "all",
    "start_percent": 0.0,
    "end_percent": 1.0,
}
WAYS = {
    "off": None,
    "as published": PUBLISHED,
    "as published, words": {**PUBLISHED, "mask": WORDS},
    "published, fast": {**PUBLISHED, "mode": "fast"},
    "first shot beside own": REMEMBER,
    "first beside own, words": {**REMEMBER, "mask": WORDS},
    "previous beside own": {**REMEMBER, "source": {"source": "previous"}},
}
COSTS = {
    "published, fast": WAYS["published, fast"],
    "as published": PUBLISHED,
    "published, fast, words": {**PUBLISHED, "mode": "fast", "mask": WORDS},
    "first shot beside own": REMEMBER,
    "first beside own, words": WAYS["first beside own, words"],
}


class Bench:
    def __init__(self):
        self.model, self.clip, self.vae = call(LongreelDemoModel)

    def plan(self, scenes, transition: str, later: tuple[str, ...]):
        board = storyboard(scenes, transition, later)
        timeline, latent = call(
            LongreelPlan,
            model=self.model,
            storyboard=board,
            width=0,
            height=0,
            segment_frames=SEGMENT_FRAMES,
            overlap_frames=OVERLAP_FRAMES,
            transition_prompts=1,
            steps=STEPS,
            guidance=True,
        )[:2]
        return timeline, latent, call(LongreelEncode, clip=self.clip, timeline=timeline)

    def shared(self, settings: dict | None, words: str, timeline, seed: int):
        model = self.model
        if settings is not None:
            mask = {**settings["mask"], "words": words}
            (model,) = call(LongreelKVShare, model=model, **{**settings, "mask": mask})
        return call(
            LongreelLatentBlend,
            model=model,
            timeline=timeline,
            blend="triangle",
            blend_seed=seed,
            segment_latent_frames=0,
            overlap_latent_frames=-1,
            transition_prompts=-1,
            lead_frame=True,
        )[0]

    def sample(self, model, prompts, latent, seed: int):
        return call(
            nodes.KSampler,
            model=model,
            seed=seed,
            steps=STEPS,
            cfg=CFG,
            sampler_name="euler",
            scheduler="simple",
            positive=prompts[0],
            negative=prompts[1],
            latent_image=latent,
            denoise=1.0,
        )[0]

    def case(self, number: int, transition: str) -> tuple[list, list[int], dict[str, torch.Tensor]]:
        """(scenes, pixel frames at which shots begin, way -> video [F, 64, 64, 3])."""
        scenes = continuous_motions(random.Random(55_000 + number))
        later = tuple(name for name in EVERYTHING if name != "color")
        videos = {}
        timeline, latent, prompts = self.plan(scenes, transition, later)
        for name, settings in WAYS.items():
            model = self.shared(settings, scenes[0].shape, timeline, number)
            (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=self.sample(model, prompts, latent, number))
            videos[name] = frames.reshape(-1, 64, 64, 3).clamp(0, 1)
        timeline, latent, prompts = self.plan(scenes, transition, EVERYTHING)
        (frames,) = call(
            nodes.VAEDecode,
            vae=self.vae,
            samples=self.sample(self.shared(None, "", timeline, number), prompts, latent, number),
        )
        videos["off, colour said"] = frames.reshape(-1, 64, 64, 3).clamp(0, 1)
        self.reaches = [(r.start, r.stop) for r in transition_reaches(timeline) if not r.is_cut]
        return scenes, [timeline.facts.first_pixel_frame(s.start_frame) for s in timeline.shots[1:]], videos

    def costs(self, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
        """Way -> (wall times, peak memory), each divided by the model without the node in the same round."""
        scenes = continuous_motions(random.Random(1))
        timeline, latent, prompts = self.plan(scenes, "blend", EVERYTHING)
        ratios = {name: ([], []) for name in COSTS}
        models = {
            "off": self.shared(None, "", timeline, 0),
            **{name: self.shared(settings, scenes[0].shape, timeline, 0) for name, settings in COSTS.items()},
        }
        for number in range(rounds + 1):  # the first round warms up
            measured = {}
            order = list(models) if number % 2 else list(models)[::-1]
            for name in order:
                forget_peak()
                started = time.perf_counter()
                self.sample(models[name], prompts, latent, number)
                measured[name] = time.perf_counter() - started, peak_bytes()
            for name in COSTS if number else ():
                for kept, mine, plain in zip(ratios[name], measured[name], measured["off"], strict=False):
                    kept.append(mine / plain)
        return ratios


def forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with open("/proc/self/clear_refs", "w") as file:  # Linux: the process's own high-water mark
            file.write("5")


def peak_bytes() -> int:
    """Of the GPU, or of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


def judge(video: torch.Tensor, boundaries: list[int], scenes: list) -> dict[str, list[float]]:
    """What the detector reads of every shot, away from the joints."""
    edges = [0, *boundaries, video.shape[0]]
    seen = [detector.read_clip(video[a + 2 : b - 2]) for a, b in itertools.pairwise(edges)]
    return {
        "recall": [s.color == seen[0].color for s in seen[1:]],
        "motion": [s.motion == scene.motion for s, scene in zip(seen, scenes, strict=False)],
        "shape": [s.shape == scene.shape for s, scene in zip(seen, scenes, strict=False)],
        "seam": [max(seam_score(video, b, SPREAD_FRAMES) for b in boundaries)],
    }


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=40)
    arguments.add_argument("--rounds", type=int, default=7, help="rounds of timed runs; 0 for none")
    arguments.add_argument("--transition", nargs="+", default=["blend", "cut"], choices=["blend", "cut"])
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench = Bench()
        for transition in options.transition:
            scores: dict[str, dict[str, list[list[float]]]] = {}  # of each storyboard
            looks: dict[str, list[_look.Look]] = {}
            sheets: dict[str, list[tuple]] = {}
            for number in range(options.offset, options.offset + options.seeds):
                scenes, boundaries, videos = bench.case(number, transition)
                for name, video in videos.items():
                    for key, values in judge(video, boundaries, scenes).items():
                        scores.setdefault(name, {}).setdefault(key, []).append(values)
                    cuts = boundaries if transition == "cut" else []
                    seen = _look.look(video, [0, *boundaries, len(video)], scenes, bench.reaches, cuts)
                    looks.setdefault(name, []).append(seen)
                    caption = f"{number} {name}: {scenes[0].color} {scenes[0].shape} "
                    caption += ", ".join(s.motion for s in scenes)
                    sheets.setdefault(name, []).append((video, caption, seen.broken, bench.reaches))
            rows = [
                [name, *(story_percent(s[key]) for key in ("recall", "motion", "shape")), story_median(s["seam"])]
                for name, s in scores.items()
            ]
            title = f"{transition}, {options.seeds} storyboards of {SHOTS} shots"
            print(table([title, "recall", "motion", "shape", "seam"], rows))
            print("\n" + table([title, *_look.TITLES], _look.rows(looks)), flush=True)
            print()
            figures[transition] = scores
            figures[f"{transition}, looks"] = {n: [vars(x) for x in some] for n, some in looks.items()}
            if options.images:
                _look.sheets(sheets, options.images, f"kv_share_{transition}")
                bar_chart(
                    {n: 100 * statistics.mean(x for story in s["recall"] for x in story) for n, s in scores.items()},
                    options.images / f"kv_share_recall_{transition}.png",
                    f"recall of the unsaid colour in %, {transition} shots (line: chance)",
                    mark=100 / 6,
                )
        if options.rounds:
            costs = bench.costs(options.rounds)
            print(
                table(
                    [f"cost / off, median of {options.rounds}", "wall time", "peak memory"],
                    [
                        [name, *(f"{statistics.median(v):.3f} ({min(v):.3f} .. {max(v):.3f})" for v in values)]
                        for name, values in costs.items()
                    ],
                )
            )
            figures["costs"] = costs


if __name__ == "__main__":
    main()
