"""How visible are the joints? Three shots on the demo model, every blend of Longreel and core's Wan Context Windows.

    python dev.py bench blend [--seeds 20] [--offset 0] [--images FOLDER] [--json FILE]

Every case is one object whose movement changes twice; the movements are chosen so that one take could show them. The
score is engine/measure/metrics.seam at both joints, the worse one counts: about 1 is what the shots themselves do;
rendered jumps of 8 pixels score above 3 (dev.py bench seam_check). `worst pair` is the largest difference between
neighbouring frames anywhere in the video that a small movement does not explain, 0..1: it also sees a glitch away from
the joint. `motion right` is the share of shots in which the detector reads the movement of the prompt. `cut shots`
samples the three shots as separate takes. Then the wall time of one joint sampling against core's windows on the same
frames and windows, in turn, as a ratio.
"""

import random
import statistics
import time

import torch

from tests.bench_support import bar_chart, call, contact_sheet, measuring, parser, start_comfyui, table

nodes = start_comfyui()

from comfy_extras.nodes_context_windows import WanContextWindowsManualNode

from longreel.demo import detector, world
from longreel.engine.measure.metrics import seam_score, unexplained
from longreel.engine.sampling.latent_blend import BLENDS
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.latent_blend import LongreelLatentBlend
from longreel.nodes.plan import LongreelPlan
from tests.bench.stories import SHOTS, continuous_motions, storyboard

SEGMENT_FRAMES, OVERLAP_FRAMES = 17, 8  # pixel frames: 5 and 2 latent frames
STEPS, CFG = 16, 4.0
SPREAD_FRAMES = 4  # pixel frames on each side of the boundary that also belong to the joint: one latent frame
REACH_PIXELS = 4  # the shapes move 2 pixels per frame
CORE = "core context windows"


class Bench:
    def __init__(self):
        self.model, self.clip, self.vae = call(LongreelDemoModel)

    def plan(self, board: Storyboard, prompts: int = 1):
        return call(
            LongreelPlan,
            model=self.model,
            storyboard=board,
            width=0,
            height=0,
            segment_frames=SEGMENT_FRAMES,
            overlap_frames=OVERLAP_FRAMES,
            transition_prompts=prompts,
            steps=STEPS,
            guidance=True,
        )[:2]

    def blended(self, timeline, blend: str, seed: int):
        return call(
            LongreelLatentBlend,
            model=self.model,
            timeline=timeline,
            blend=blend,
            blend_seed=seed,
            segment_latent_frames=0,
            overlap_latent_frames=-1,
            transition_prompts=-1,
            lead_frame=True,
        )[0]

    def windowed(self, split: bool):
        return call(
            WanContextWindowsManualNode,
            model=self.model,
            context_length=SEGMENT_FRAMES,
            context_overlap=OVERLAP_FRAMES,
            context_schedule="standard_static",
            context_stride=1,
            closed_loop=False,
            fuse_method="pyramid",
            freenoise=True,
            retain_first_frame=False,
            split_conds_to_windows=split,
        )[0]

    def sample(self, model, positive, negative, latent, seed: int):
        return call(
            nodes.KSampler,
            model=model,
            seed=seed,
            steps=STEPS,
            cfg=CFG,
            sampler_name="euler",
            scheduler="simple",
            positive=positive,
            negative=negative,
            latent_image=latent,
            denoise=1.0,
        )[0]

    def video(self, latent) -> torch.Tensor:
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=latent)
        return frames.reshape(-1, 64, 64, 3).clamp(0, 1)

    def case(self, number: int) -> dict[str, torch.Tensor]:
        """One storyboard sampled in every way -> name: video [49, 64, 64, 3]."""
        scenes, videos = continuous_motions(random.Random(77_000 + number)), {}
        ways = [
            ("cut shots", "cut", "cut", 1),
            *((b, "blend", b, 1) for b in BLENDS),
            *((f"{b}, no transition prompt", "blend", b, 0) for b in BLENDS),
        ]
        for name, transition, blend, prompts in ways:
            timeline, latent = self.plan(storyboard(scenes, transition), prompts)
            positive, negative = call(LongreelEncode, clip=self.clip, timeline=timeline)
            model = self.blended(timeline, blend, number)
            videos[name] = self.video(self.sample(model, positive, negative, latent, number))
        plain = []
        for shot in timeline.shots:
            plain += call(nodes.CLIPTextEncode, clip=self.clip, text=shot.shot.prompt)[0]
        (empty,) = call(nodes.CLIPTextEncode, clip=self.clip, text="")
        videos[CORE] = self.video(self.sample(self.windowed(True), plain, empty, latent, number))
        self.boundaries = [timeline.facts.first_pixel_frame(s.start_frame) for s in timeline.shots[1:]]
        self.scenes = scenes
        return videos

    def time_ratio(self, rounds: int) -> tuple[float, list[float]]:
        """Median and all ratios ours/core's of one sampling of a 13-frame latent in the same four windows."""
        scene = world.random_scene(random.Random(1), 17)
        board = Storyboard(shots=(Shot(world.prompt(scene), 49 / 16),), width=64, height=64, fps=16.0)
        timeline, latent = self.plan(board)
        positive, negative = call(LongreelEncode, clip=self.clip, timeline=timeline)
        ours, core = self.blended(timeline, "triangle", 0), self.windowed(False)
        assert [s.start_frame for s in timeline.segments] == [0, 3, 6, 8], "core's standard_static makes these windows"
        ratios = []
        for number in range(rounds + 1):  # the first round warms up
            seconds = []
            for model in (ours, core) if number % 2 else (core, ours):
                started = time.perf_counter()
                self.sample(model, positive, negative, latent, number)
                seconds.append(time.perf_counter() - started)
            mine, theirs = seconds if number % 2 else reversed(seconds)
            ratios.append(mine / theirs)
        return statistics.median(ratios[1:]), ratios[1:]


def motions_right(video: torch.Tensor, boundaries: list[int], scenes: list[world.Scene]) -> int:
    """In how many shots the detector reads the movement that the prompt names, away from the joints."""
    edges = [0, *boundaries, video.shape[0]]
    return sum(
        detector.read_clip(video[a + 2 : b - 2]).motion == s.motion
        for a, b, s in zip(edges, edges[1:], scenes, strict=False)
    )


def worst_pair(video: torch.Tensor) -> float:
    """Of video [F, H, W, 3]: see the top of this file."""
    frames = video.permute(0, 3, 1, 2)
    return float(unexplained(frames[:-1], frames[1:], REACH_PIXELS)[0].max())


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=20)
    arguments.add_argument("--rounds", type=int, default=9, help="pairs of timed runs")
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench, scores, worst, right, shown, captions = Bench(), {}, {}, {}, [], []
        for number in range(options.offset, options.offset + options.seeds):
            for name, video in bench.case(number).items():
                score = max(seam_score(video, b, SPREAD_FRAMES) for b in bench.boundaries)
                scores.setdefault(name, []).append(score)
                worst.setdefault(name, []).append(worst_pair(video))
                right[name] = right.get(name, 0) + motions_right(video, bench.boundaries, bench.scenes)
                if number - options.offset < 3:
                    shown.append(video)
                    captions.append(
                        f"{name}: seam {score:.1f}   {bench.scenes[0].color} {bench.scenes[0].shape} "
                        + ", ".join(s.motion for s in bench.scenes)
                    )
        rows = [
            [
                name,
                statistics.median(s),
                statistics.mean(s),
                sorted(s)[int(0.9 * (len(s) - 1))],
                f"{100 * sum(x > 3 for x in s) / len(s):.0f} %",
                statistics.median(worst[name]),
                f"{100 * right[name] / (SHOTS * len(s)):.0f} %",
            ]
            for name, s in scores.items()
        ]
        print(
            table(
                [
                    f"seam, {options.seeds} storyboards",
                    "median",
                    "mean",
                    "90th of 100",
                    "above 3",
                    "worst pair",
                    "motion right",
                ],
                rows,
            )
        )
        ratio, ratios = bench.time_ratio(options.rounds)
        print(
            f"\nwall time of one sampling, Longreel / core, same windows and evaluations: median {ratio:.3f} of "
            f"{len(ratios)} pairs ({min(ratios):.3f} .. {max(ratios):.3f})"
        )
        figures.update(
            seam=scores,
            worst_pair=worst,
            motion_right={n: r / (SHOTS * options.seeds) for n, r in right.items()},
            time_ratio={"median": ratio, "all": ratios},
        )
        if options.images:
            contact_sheet(shown, captions, options.images / "blend.png", every=3)
            bar_chart(
                {n: statistics.median(s) for n, s in scores.items()},
                options.images / "blend_seams.png",
                "median seam score of the worse joint (line: a rendered jump of 8 pixels at its mildest)",
                mark=3.0,
            )


if __name__ == "__main__":
    main()
