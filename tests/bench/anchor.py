"""Does a right first picture make a right video? Two objects in one prompt, with and without an anchor.

    python dev.py bench anchor [--seeds 100] [--offset 0] [--ways "clean with LoRA" ...] [--steps 15 8 5 3]
                               [--tables first own later] [--images FOLDER] [--json FILE]

The demo model was trained on one object; a prompt with two is one that it often gets wrong. At least one of the two is
a combination that no training saw. The user's picture is painted by the world's own renderer; a second set of pictures
is the demo model's own single frame of the prompt without its movements, as in the factorized pipeline. The detector
reads both halves of every frame: objects and colours (on whatever side), places (each object, by colour and shape, on
its side in every frame), motion, all. Anchors stand at latent frame 0, and in a third table in the middle and at the
end. Every case is one clip of a prompt of its own, and right or wrong in each respect: intervals are Wilson's.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tests.bench_support import call, contact_sheet, line_chart, measuring, parser, percent, start_comfyui, table

nodes = start_comfyui()

import comfy.samplers
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from longreel.demo import pair_world, world
from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.hosts import facts_of
from longreel.hosts.anchor.picture import encode_picture
from longreel.nodes.anchor_frame import LongreelAnchorFrame
from longreel.nodes.anchor_lora import BUNDLED, LongreelLoadAnchorLoRA
from longreel.nodes.demo_model import LongreelDemoModel

FRAMES, LATENT_FRAMES, LATENT_CHANNELS = 17, 5, 16
SIZE = world.SIZE_PIXELS
BATCH = 10  # prompts that are sampled together
STEPS = (15, 8, 5, 3)
CFG, SHIFT = 4.0, 8.0
TABLES = FIRST, OWN, LATER = "first", "own", "later"
JUDGED = ("background", "objects", "colours", "places", "motion", "all")
PLAIN, LORA_ALONE, INPAINTED, CLEAN_PLAIN, CLEAN_LORA = (
    "plain",
    "LoRA without anchor",
    "inpaint",
    "clean without LoRA",
    "clean with LoRA",
)
WAYS = {
    PLAIN: (False, None),
    LORA_ALONE: (True, None),
    INPAINTED: (False, INPAINT),
    CLEAN_PLAIN: (False, CLEAN),
    CLEAN_LORA: (True, CLEAN),
}


@dataclass(frozen=True)
class Case:
    pair: pair_world.PairScene
    seed: int


def cases(count: int, offset: int) -> list[Case]:
    """Case i is the same whatever `count` is."""
    return [
        Case(pair_world.random_pair(random.Random(7_000_003 + offset + i), FRAMES, held_out=True), 40_000 + offset + i)
        for i in range(count)
    ]


class Bench:
    """Core's path from prompts to frames, a batch at a time, with the nodes of the pack on the model."""

    def __init__(self):
        model, self.clip, self.vae = call(LongreelDemoModel)
        (self.plain,) = call(ModelSamplingSD3, model=model, shift=SHIFT)
        self.adapted, _ = call(
            LongreelLoadAnchorLoRA, model=self.plain, file=BUNDLED, strength=1.0, alpha=0.0, allow_partial=False
        )
        self.facts = facts_of(self.plain)

    def encode(self, prompts: Sequence[str]) -> list:
        """One CONDITIONING of a batch."""
        texts = [call(nodes.CLIPTextEncode, clip=self.clip, text=prompt)[0][0] for prompt in prompts]
        return [[torch.cat([text for text, _ in texts]), texts[0][1]]]

    def pictures(self, images: Sequence[torch.Tensor], seconds: float) -> torch.Tensor:
        """Images [64, 64, 3] -> latents [B, 16, 1, 8, 8] of anchors at `seconds`."""
        anchor = place_anchor(seconds, world.FRAMES_PER_SECOND, self.facts, CLEAN, 1.0)
        return torch.cat([encode_picture(self.vae, image[None], anchor, self.facts, SIZE, SIZE) for image in images])

    def sample(
        self,
        way: str,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        pictures: torch.Tensor | None,
        seconds: float = 0.0,
        latent_frames: int = LATENT_FRAMES,
    ) -> torch.Tensor:
        """-> frames [B, F, 64, 64, 3], 0..1. Every case has noise of its own seed."""
        with_lora, mode = WAYS[way]
        model = self.adapted if with_lora else self.plain
        if mode is not None:
            picture = {"picture": "latent", "latent": {"samples": pictures}, "seconds": seconds}
            model, _ = call(LongreelAnchorFrame, model=model, picture=picture, mode=mode, strength=1.0)
        shape = (len(prompts), LATENT_CHANNELS, latent_frames, SIZE // 8, SIZE // 8)
        noise = torch.cat(
            [torch.randn((1, *shape[1:]), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(self.encode(prompts), self.encode([""] * len(prompts)))
        guider.set_cfg(CFG)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        latent = guider.sample(
            noise, torch.zeros(shape), comfy.samplers.sampler_object("euler"), sigmas, seed=seeds[0], disable_pbar=True
        )
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples={"samples": latent})
        return frames.reshape(len(prompts), -1, SIZE, SIZE, 3).float().clamp(0, 1)


def in_batches(all_cases: Sequence[Case], run: Callable[[Sequence[Case]], torch.Tensor]) -> list[torch.Tensor]:
    return [clip for first in range(0, len(all_cases), BATCH) for clip in run(all_cases[first : first + BATCH])]


def judged(all_cases: Sequence[Case], clips: Sequence[torch.Tensor]) -> dict[str, int]:
    """How many clips are right in each respect; a single frame has no motion."""
    right = dict.fromkeys(JUDGED, 0)
    for case, clip in zip(all_cases, clips, strict=True):
        for name, ok in pair_world.read_pair(clip).agrees(case.pair).items():
            right[name] += ok
    return right


def psnr(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(-10 * torch.log10((one - two).square().mean()))


def painted(case: Case, pixel_frame: int = 0) -> torch.Tensor:
    """[64, 64, 3]: the user's picture."""
    return pair_world.render(case.pair, FRAMES)[pixel_frame].permute(1, 2, 0)


def row(name: str, right: dict[str, int], count: int) -> list[str]:
    return [name, *(percent(right[judge], count) for judge in JUDGED)]


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=100)
    arguments.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    arguments.add_argument("--steps", nargs="+", type=int, default=list(STEPS), help="the first is the full number")
    options = arguments.parse_args()
    with measuring(options) as figures:
        bench, chosen = Bench(), cases(options.seeds, options.offset)
        prompts = {case.seed: pair_world.prompt(case.pair) for case in chosen}
        pictures = {case.seed: bench.pictures([painted(case)], 0.0) for case in chosen}

        def run(way: str, steps: int, latents: dict[int, torch.Tensor], seconds: float = 0.0) -> list[torch.Tensor]:
            return in_batches(
                chosen,
                lambda some: bench.sample(
                    way,
                    [prompts[case.seed] for case in some],
                    [case.seed for case in some],
                    steps,
                    torch.cat([latents[case.seed] for case in some]),
                    seconds,
                ),
            )

        if FIRST in options.tables:
            figures[FIRST] = first_frames(bench, chosen, options, run, pictures)
        if OWN in options.tables:
            figures[OWN] = own_pictures(bench, chosen, options.steps[0], run)
        if LATER in options.tables:
            figures[LATER] = later_frames(bench, chosen, options.steps[0], run)


def first_frames(bench: Bench, chosen: Sequence[Case], options, run, pictures: dict[int, torch.Tensor]) -> dict:
    """Every way at every number of steps, and how well the anchor's frame is kept."""
    found, rows, count, full = {}, [], len(chosen), options.steps[0]
    round_trips = [call(nodes.VAEDecode, vae=bench.vae, samples={"samples": pictures[case.seed]})[0] for case in chosen]
    own = [
        psnr(one.reshape(SIZE, SIZE, 3).clamp(0, 1), painted(case))
        for one, case in zip(round_trips, chosen, strict=False)
    ]
    kept = {}
    for way in options.ways:
        for steps in options.steps:
            clips = run(way, steps, pictures)
            right = judged(chosen, clips)
            found.setdefault(way, {})[steps] = right
            rows.append(row(f"{way}, {steps} steps", right, count))
            print(f"{way}, {steps} steps: {right}", flush=True)
            if WAYS[way][1] is not None and steps == full:
                kept[way] = [psnr(clip[0], painted(case)) for clip, case in zip(clips, chosen, strict=False)]
            if options.images and steps == full:
                contact_sheet(
                    clips[:12],
                    [pair_world.prompt(case.pair) for case in chosen[:12]],
                    options.images / f"anchor_{way.replace(' ', '_')}.png",
                )
    print(table([f"{count} prompts with two objects, right, Wilson's 95 %", *JUDGED], rows))
    mean = sum(own) / count
    print(
        f"\nthe anchor's frame against the user's picture: VAE's own round trip {mean:.2f} dB; "
        + "; ".join(f"{way} {sum(values) / count:.2f} dB" for way, values in kept.items())
    )
    if options.images:
        steps = sorted(options.steps)
        line_chart(
            {way: [by_steps[n]["places"] / count for n in steps] for way, by_steps in found.items()},
            options.images / "anchor_steps.png",
            f"right places at {', '.join(map(str, steps))} steps",
            top=1.0,
        )
    return {
        "right": found,
        "of": count,
        "round_trip_psnr": mean,
        "anchor_psnr": {way: sum(values) / count for way, values in kept.items()},
    }


def own_pictures(bench: Bench, chosen: Sequence[Case], steps: int, run) -> dict:
    """The factorized pipeline with the demo model as its own painter: one frame of the prompt without its movements."""
    naming = ("color", "shape", "background")
    painted_by_model = in_batches(
        chosen,
        lambda some: bench.sample(
            PLAIN,
            [pair_world.prompt(case.pair, naming) for case in some],
            [case.seed for case in some],
            steps,
            None,
            latent_frames=1,
        ),
    )
    still = judged(chosen, painted_by_model)
    latents = {
        case.seed: bench.pictures([picture[0]], 0.0) for case, picture in zip(chosen, painted_by_model, strict=False)
    }
    video = judged(chosen, run(CLEAN_LORA, steps, latents))
    print(
        "\n"
        + table(
            ["the demo model's own single frame as the picture", *JUDGED],
            [
                [*row("the single frame", still, len(chosen))[:-2], "-", percent(still["all"], len(chosen))],
                row(f"{CLEAN_LORA}, {steps} steps", video, len(chosen)),
            ],
        )
    )
    return {"single_frame": still, "video": video, "of": len(chosen)}


def later_frames(bench: Bench, chosen: Sequence[Case], steps: int, run) -> dict:
    """Anchors in the middle and at the end (experimental): the picture is the world's frame at that time."""
    found, rows = {}, []
    for name, pixel_frame in (("middle", FRAMES // 2), ("end", FRAMES - 1)):
        seconds = pixel_frame / world.FRAMES_PER_SECOND
        latents = {case.seed: bench.pictures([painted(case, pixel_frame)], seconds) for case in chosen}
        for way in (INPAINTED, CLEAN_PLAIN, CLEAN_LORA):
            clips = run(way, steps, latents, seconds)
            right = judged(chosen, clips)
            kept = [
                psnr(clip[pixel_frame], painted(case, pixel_frame)) for clip, case in zip(clips, chosen, strict=False)
            ]
            found[f"{name}, {way}"] = {"right": right, "anchor_psnr": sum(kept) / len(kept)}
            rows.append([*row(f"{name}, {way}", right, len(chosen)), f"{sum(kept) / len(kept):.2f} dB"])
    print("\n" + table([f"anchor later, {steps} steps (experimental)", *JUDGED, "anchor's frame"], rows))
    return found


if __name__ == "__main__":
    main()
