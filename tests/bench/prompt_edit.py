"""Does an edited video keep the layout of its original, and do words count by their weight?

    python dev.py bench prompt_edit [--seeds 30] [--offset 0] [--images FOLDER] [--json FILE]

One clip of the demo model per case. Swap: another colour, and in every second case another shape too, from the same
noise. `apart` is the distance in pixels (of 64) between the centres of both objects, mean over the frames; `said` the
share of colour, shape and movement that the detector reads as the edited prompt says them. `alone` is the edited prompt
without the node. Reweight: the share of clips that still show the colour which the prompt names, by the weight of that
word; weight 1 is the plain model.

The three things that are said of one clip are not independent: their interval is a bootstrap over clips, and so are
those of the distances. Where each clip is one yes or no, it is Wilson's.
"""

import random
import statistics
from dataclasses import replace

import torch

from tests.bench_support import (
    bar_chart,
    call,
    contact_sheet,
    measuring,
    parser,
    percent,
    start_comfyui,
    story_median,
    story_percent,
    table,
)

nodes = start_comfyui()

from longreel.demo import detector, world
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.plan import LongreelPlan
from longreel.nodes.prompt_edit import LongreelPromptEdit
from tests.bench.stories import EVERYTHING

FRAMES = 17
STEPS, CFG = 16, 4.0


def swap(layers: str, start: float, end: float) -> dict:
    return {"edit": "swap", "layers": layers, "start_percent": start, "end_percent": end}


def reweight(words: str, weight: float, form: str = "after softmax") -> dict:
    return {
        "edit": "reweight",
        "words": words,
        "weight": weight,
        "form": form,
        "layers": "all",
        "start_percent": 0.0,
        "end_percent": 1.0,
        "layout_percent": 0.0,
    }


SWAPS = {
    "alone": None,
    "as published (last 1/6, 4 to 50 %)": swap("last 1/6", 0.04, 0.5),
    "first half of the layers, 0 to 50 %": swap("first 1/2", 0.0, 0.5),
    "all layers, 0 to 70 %": swap("all", 0.0, 0.7),
}
WEIGHTS = [
    ("after softmax", 0.0),
    ("after softmax", 0.5),
    ("after softmax", 1.0),
    ("after softmax", 2.0),
    ("logits", 0.0),
    ("logits", 0.5),
    ("logits", 2.0),
]


class Bench:
    def __init__(self):
        self.model, self.clip, self.vae = call(LongreelDemoModel)

    def sample(self, text: str, seed: int, edit: dict | None = None, original: list | None = None):
        """(video [F, 64, 64, 3], positive conditioning) of one clip."""
        board = Storyboard(shots=(Shot(text, FRAMES / 16),), width=64, height=64, fps=16.0)
        timeline, latent = call(
            LongreelPlan,
            model=self.model,
            storyboard=board,
            width=0,
            height=0,
            segment_frames=FRAMES,
            overlap_frames=-1,
            transition_prompts=0,
            steps=STEPS,
            guidance=True,
        )[:2]
        positive, negative = call(LongreelEncode, clip=self.clip, timeline=timeline)
        model = self.model
        if edit:
            (model,) = call(LongreelPromptEdit, model=model, edit=edit, original=original)
        (latent,) = call(
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
        )
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=latent)
        return frames.reshape(-1, 64, 64, 3).clamp(0, 1), positive


def centres(video: torch.Tensor) -> torch.Tensor:
    """[F, 2]: the middle of what differs from the background, pixels."""
    background = video[:, :2].flatten(1, 2).median(dim=1).values  # [F, 3]
    object_ = ((video - background[:, None, None]).abs().amax(dim=-1) > 0.25).float() + 1e-6  # [F, H, W]
    pixels, total = torch.arange(video.shape[1], dtype=torch.float32), object_.sum((1, 2))
    return torch.stack([(object_.sum(1) * pixels).sum(1) / total, (object_.sum(2) * pixels).sum(1) / total], dim=-1)


def edited(scene: world.Scene, number: int, rng: random.Random) -> world.Scene:
    color = rng.choice([c for c in world.COLORS if c != scene.color])
    shape = rng.choice([s for s in world.SHAPES if s != scene.shape]) if number % 2 else scene.shape
    return replace(scene, color=color, shape=shape)


def main() -> None:
    options = parser(__doc__.splitlines()[0], seeds=30).parse_args()
    with measuring(options) as figures:
        bench = Bench()
        apart, said = {name: [] for name in SWAPS}, {name: [] for name in SWAPS}
        kept = dict.fromkeys(WEIGHTS, 0)
        shown, captions = [], []
        for number in range(options.offset, options.offset + options.seeds):
            rng = random.Random(33_000 + number)
            scene = world.random_scene(rng, FRAMES)
            target = edited(scene, number, rng)
            original, positive = bench.sample(world.prompt(scene, EVERYTHING), number)
            videos = {"original": original}
            for name, edit in SWAPS.items():
                video, _ = bench.sample(world.prompt(target, EVERYTHING), number, edit, positive if edit else None)
                videos[name] = video
                read = detector.read_clip(video)
                apart[name].append(float((centres(original) - centres(video)).norm(dim=-1).mean()))
                right = [read.color == target.color, read.shape == target.shape, read.motion == target.motion]
                said[name].append(right)
            for form, weight in WEIGHTS:
                video, _ = bench.sample(world.prompt(scene, EVERYTHING), number, reweight(scene.color, weight, form))
                kept[form, weight] += detector.read_clip(video).color == scene.color
            if number - options.offset < 4:
                shown += videos.values()
                captions += [f"{name}: {scene.color} {scene.shape} -> {target.color} {target.shape}" for name in videos]
        print(
            table(
                [f"swap, {options.seeds} clips, over clips", "apart, median px", "apart, mean px", "said"],
                [
                    [
                        name,
                        story_median([[pixels] for pixels in apart[name]]),
                        statistics.mean(apart[name]),
                        story_percent(said[name]),
                    ]
                    for name in SWAPS
                ],
            )
        )
        print()
        print(
            table(
                [f"reweight the colour, {options.seeds} clips, Wilson", "still that colour"],
                [[f"{form}, {weight:g}", percent(kept[form, weight], options.seeds)] for form, weight in WEIGHTS],
            )
        )
        figures.update(
            apart=apart, said=said, kept={f"{form} {weight:g}": count for (form, weight), count in kept.items()}
        )
        if options.images:
            contact_sheet(shown, captions, options.images / "prompt_edit.png", every=2)
            bar_chart(
                {name: statistics.mean(values) for name, values in apart.items()},
                options.images / "prompt_edit_apart.png",
                "mean distance from the original's object in pixels",
            )


if __name__ == "__main__":
    main()
