"""How visible are the joints? Three shots on the demo model, every blend of Longreel and core's Wan Context Windows.

    python dev.py bench blend [--seeds 20] [--offset 0] [--images FOLDER] [--json FILE]

Every case is one object whose movement changes twice; the movements are chosen so that one take could show them. The
score is engine/measure/metrics.seam at both joints, the worse one counts: about 1 is what the shots themselves do;
rendered jumps of 8 pixels score above 3 (dev.py bench seam_check). That looks at the planned boundary alone; the second
table is what a person sees: `reach seam` scores the worse joint over all frames that the transition reaches
(engine/measure/reach.py), `worst pair` is the largest difference between neighbouring frames anywhere in the video that
a small movement does not explain, 0..1, `broken frames` the share whose picture the detector finds broken
(demo/frame_check.py). `movement` is right at the world's own pace, `direction` at any, `pace` 1 as in the world.
Intervals are by bootstrap over storyboards. `cut shots` samples the three shots as separate takes; their reach is that
of the others, without the pair across the cut. Then the wall time of one joint sampling against core's windows on the
same frames and windows, in turn, as a ratio.
"""

import random
import statistics
import time

import torch

from tests.bench_support import bar_chart, call, measuring, parser, start_comfyui, story_median, table

nodes = start_comfyui()

from comfy_extras.nodes_context_windows import WanContextWindowsManualNode

from longreel.demo import world
from longreel.engine.measure.metrics import seam_score
from longreel.engine.plan.transition_reach import transition_reaches
from longreel.engine.sampling.latent_blend import BLENDS
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.latent_blend import LongreelLatentBlend
from longreel.nodes.plan import LongreelPlan
from tests.bench import _look
from tests.bench.stories import continuous_motions, storyboard

SEGMENT_FRAMES, OVERLAP_FRAMES = 17, 8  # pixel frames: 5 and 2 latent frames
STEPS, CFG = 16, 4.0
SPREAD_FRAMES = 4  # pixel frames on each side of the boundary that also belong to the joint: one latent frame
CORE, CUT = "core context windows", "cut shots"


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
            (CUT, "cut", "cut", 1),
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
        planned, _ = self.plan(storyboard(scenes, "blend"), 1)
        self.reaches = [(r.start, r.stop) for r in transition_reaches(planned)]
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


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=20)
    arguments.add_argument("--rounds", type=int, default=9, help="pairs of timed runs")
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench, scores, looks, sheets = Bench(), {}, {}, {}
        for number in range(options.offset, options.offset + options.seeds):
            for name, video in bench.case(number).items():
                score = max(seam_score(video, b, SPREAD_FRAMES) for b in bench.boundaries)
                scores.setdefault(name, []).append(score)
                cuts = bench.boundaries if name == CUT else []
                seen = _look.look(video, [0, *bench.boundaries, len(video)], bench.scenes, bench.reaches, cuts)
                looks.setdefault(name, []).append(seen)
                caption = (
                    f"{number} {name}: seam {score:.1f}, reach {max(seen.seams):.1f}, worst pair {seen.worst:.2f}   "
                )
                caption += f"{bench.scenes[0].color} {bench.scenes[0].shape} " + ", ".join(
                    s.motion for s in bench.scenes
                )
                sheets.setdefault(name, []).append((video, caption, seen.broken, bench.reaches))
        rows = [
            [
                name,
                story_median([[x] for x in s]),
                statistics.mean(s),
                sorted(s)[int(0.9 * (len(s) - 1))],
                f"{100 * sum(x > 3 for x in s) / len(s):.0f} %",
            ]
            for name, s in scores.items()
        ]
        titles = [f"seam at the boundary, {options.seeds} storyboards", "median", "mean", "90th of 100", "above 3"]
        print(table(titles, rows))
        print("\n" + table([f"{options.seeds} storyboards", *_look.TITLES], _look.rows(looks)))
        ratio, ratios = bench.time_ratio(options.rounds)
        print(
            f"\nwall time of one sampling, Longreel / core, same windows and evaluations: median {ratio:.3f} of "
            f"{len(ratios)} pairs ({min(ratios):.3f} .. {max(ratios):.3f})"
        )
        figures.update(
            seam=scores,
            looks={n: [vars(x) for x in some] for n, some in looks.items()},
            time_ratio={"median": ratio, "all": ratios},
        )
        if options.images:
            _look.sheets(sheets, options.images, "blend")
            bar_chart(
                {n: statistics.median(s) for n, s in scores.items()},
                options.images / "blend_seams.png",
                "median seam score of the worse joint (line: a rendered jump of 8 pixels at its mildest)",
                mark=3.0,
            )


if __name__ == "__main__":
    main()
