"""Does refinement hide its chunks, and what does it cost? Longreel Refine on drafts of the demo model.

    python dev.py bench refine [--seeds 20] [--offset 0] [--strength 0.6] [--images FOLDER] [--json FILE]

Every case is one bouncing or resting object, drafted as one take of 37 frames, then refined in chunks of 17 frames in
the ways that StreamingT2V's ablation compares: chunks alone with noise of their own, chunks alone with one noise for
both, and randomized blending over overlaps of 2 latent frames; then both blends with a solver that asks twice. `seam`
is engine/measure/metrics.seam where chunks that stand alone meet (above 3: a rendered jump of 8 pixels). `right` is the
share of videos in which the detector reads the prompt's colour, shape and background, `everywhere` of those that show
the prompt in every frame (demo/detector.py). The second table is what a person sees, as in `bench blend`; its joint is
where chunks that stand alone meet, a latent frame on each side. Intervals are by bootstrap over drafts. Then the
processor time per chunk of videos 1, 2, 4 and 8 times as long.
"""

import random
import statistics
import time

import torch

from tests.bench_support import bar_chart, call, measuring, parser, start_comfyui, story_median, story_percent, table

nodes = start_comfyui()

from comfy_extras.nodes_custom_sampler import BasicScheduler, KSamplerSelect

from longreel.demo import detector, world
from longreel.engine.measure.metrics import seam_score
from longreel.engine.sampling.refine import cover
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.latent_blend import LongreelLatentBlend
from longreel.nodes.plan import LongreelPlan
from longreel.nodes.refine import LongreelRefine
from tests.bench import _look

FRAMES, CHUNK, OVERLAP = 10, 5, 2  # latent frames
DRAFT_STEPS, STEPS, CFG = 8, 16, 4.0
JOINT = 17  # pixel frames: where the second of two chunks that stand alone begins
MOTIONS = ("bounces", "stays still")  # which a prompt can name for any length
SPREAD_FRAMES = 4  # pixel frames on each side of the joint that also belong to it: one latent frame
ALONE, ONE_NOISE = "chunks alone, noise of their own", "chunks alone, one noise"
WAYS = {  # inputs of Longreel Refine, and the sampler
    ONE_NOISE: ({"overlap_latent_frames": 0}, "euler"),
    "randomized": ({}, "euler"),
    "randomized, cuts as in the code": ({"cut_range": "code"}, "euler"),
    "randomized, no frame in front": ({"lead_frame": False}, "euler"),
    "randomized x0, heun": ({}, "heun"),
    "randomized step, heun": ({"blend": "step"}, "heun"),
}


class Bench:
    def __init__(self):
        self.model, self.clip, self.vae = call(LongreelDemoModel)
        (self.sigmas,) = call(BasicScheduler, model=self.model, scheduler="simple", steps=STEPS, denoise=1.0)

    def draft(self, scene: world.Scene, seed: int) -> tuple:
        """-> latent, positive, negative."""
        shot = Shot(world.prompt(scene), (1 + 4 * (FRAMES - 1)) / 16)
        board = Storyboard(shots=(shot,), width=64, height=64, fps=16.0)
        timeline, latent = call(
            LongreelPlan,
            model=self.model,
            storyboard=board,
            width=0,
            height=0,
            segment_frames=17,
            overlap_frames=8,
            transition_prompts=1,
            steps=DRAFT_STEPS,
            guidance=True,
        )[:2]
        positive, negative = call(LongreelEncode, clip=self.clip, timeline=timeline)
        (model,) = call(
            LongreelLatentBlend,
            model=self.model,
            timeline=timeline,
            blend="triangle",
            blend_seed=seed,
            segment_latent_frames=0,
            overlap_latent_frames=-1,
            transition_prompts=-1,
            lead_frame=True,
        )
        (latent,) = call(
            nodes.KSampler,
            model=model,
            seed=seed,
            steps=DRAFT_STEPS,
            cfg=CFG,
            sampler_name="euler",
            scheduler="simple",
            positive=positive,
            negative=negative,
            latent_image=latent,
            denoise=1.0,
        )
        return latent, positive, negative

    def refined(
        self, latent: dict, positive: list, negative: list, seed: int, strength: float, sampler: str = "euler", **inputs
    ) -> dict:
        (sampler,) = call(KSamplerSelect, sampler_name=sampler)
        settings = {"blend": "x0", "overlap_latent_frames": OVERLAP, "cut_range": "paper", "lead_frame": True, **inputs}
        return call(
            LongreelRefine,
            model=self.model,
            latent=latent,
            positive=positive,
            negative=negative,
            sampler=sampler,
            sigmas=self.sigmas,
            strength=strength,
            seed=seed,
            cfg=CFG,
            chunk_latent_frames=CHUNK,
            **settings,
        )[0]

    def alone(self, latent: dict, positive: list, negative: list, seed: int, strength: float) -> dict:
        """Every chunk refined by itself, as if the others were not there."""
        parts = [
            self.refined({"samples": part}, positive, negative, 1000 * seed + number, strength)["samples"]
            for number, part in enumerate(latent["samples"].split(CHUNK, dim=2))
        ]
        return {"samples": torch.cat(parts, dim=2)}

    def video(self, latent: dict) -> torch.Tensor:
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=latent)
        return frames.reshape(-1, 64, 64, 3).clamp(0, 1)

    def case(self, number: int, strength: float) -> tuple[world.Scene, dict[str, torch.Tensor]]:
        """One draft refined in every way -> its scene, name: video [37, 64, 64, 3]."""
        rng = random.Random(88_000 + number)
        scene = world.random_scene(rng, 17)
        while scene.motion not in MOTIONS:
            scene = world.random_scene(rng, 17)
        draft = self.draft(scene, number)
        videos = {"draft": self.video(draft[0]), ALONE: self.video(self.alone(*draft, number, strength))}
        for name, (inputs, sampler) in WAYS.items():
            videos[name] = self.video(self.refined(*draft, number, strength, sampler, **inputs))
        return scene, videos

    def seconds_per_chunk(self, rounds: int) -> dict[str, dict[int, float]]:
        """Blend -> chunks: median seconds per chunk, of videos of ever more chunks."""
        found: dict[str, dict[int, float]] = {"x0": {}, "step": {}}
        latent, positive, negative = self.draft(world.random_scene(random.Random(1), 17), 1)
        for times_as_long in (1, 2, 4, 8):
            longer = {"samples": latent["samples"].repeat(1, 1, times_as_long, 1, 1)}
            chunks = len(cover(times_as_long * FRAMES, CHUNK, OVERLAP))
            for blend, seconds in found.items():
                times = []
                for _ in range(rounds):
                    started = time.process_time()
                    self.refined(longer, positive, negative, 1, 0.25, blend=blend)
                    times.append((time.process_time() - started) / chunks)
                seconds[chunks] = statistics.median(times)
        return found


def is_right(video: torch.Tensor, scene: world.Scene) -> bool:
    read = detector.read_clip(video)
    return (read.color, read.shape, read.background) == (scene.color, scene.shape, scene.background)


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=20)
    arguments.add_argument("--strength", type=float, default=0.6, help="part of the schedule that is run")
    arguments.add_argument("--rounds", type=int, default=5, help="timed runs per length")
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench, scores, looks, sheets = Bench(), {}, {}, {}
        right, everywhere = {}, {}
        reach = (JOINT - SPREAD_FRAMES, JOINT + SPREAD_FRAMES)
        for number in range(options.offset, options.offset + options.seeds):
            scene, videos = bench.case(number, options.strength)
            for name, video in videos.items():
                score = seam_score(video, JOINT, SPREAD_FRAMES)
                scores.setdefault(name, []).append([score])
                seen = _look.look(video, [0, len(video)], [scene], [reach])
                looks.setdefault(name, []).append(seen)
                right.setdefault(name, []).append([is_right(video, scene)])
                whole = detector.read_clip(video).right_everywhere(scene, size_said=False)
                everywhere.setdefault(name, []).append([whole])
                caption = f"{number} {name}: seam {score:.1f}, worst {seen.worst:.2f}   {world.prompt(scene)}"
                sheets.setdefault(name, []).append((video, caption, seen.broken, [reach]))
        rows = [
            [
                name,
                story_median(s),
                statistics.mean(x[0] for x in s),
                f"{100 * sum(x[0] > 3 for x in s) / len(s):.0f} %",
                story_percent(right[name]),
                story_percent(everywhere[name]),
            ]
            for name, s in scores.items()
        ]
        title = f"{options.seeds} drafts"
        print(table([f"seam, {title}", "median", "mean", "above 3", "right", "everywhere"], rows))
        print("\n" + table([title, *_look.TITLES], _look.rows(looks)))
        costs = bench.seconds_per_chunk(options.rounds)
        lengths = list(costs["x0"])
        print(
            "\n"
            + table(
                ["seconds per chunk", *(f"{n} chunks" for n in lengths), "longest / shortest"],
                [
                    [blend, *seconds.values(), seconds[lengths[-1]] / seconds[lengths[0]]]
                    for blend, seconds in costs.items()
                ],
            )
        )
        figures.update(
            seam=scores,
            looks={n: [vars(x) for x in some] for n, some in looks.items()},
            right=right,
            right_everywhere=everywhere,
            seconds_per_chunk=costs,
        )
        if options.images:
            _look.sheets(sheets, options.images, "refine")
            bar_chart(
                {n: statistics.median(x[0] for x in s) for n, s in scores.items()},
                options.images / "refine_seams.png",
                "median seam score where chunks meet (line: a rendered jump of 8 pixels at its mildest)",
                mark=3.0,
            )


if __name__ == "__main__":
    main()
