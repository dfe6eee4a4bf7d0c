"""How good is the demo model? Held-out prompts, sampled through ComfyUI's own nodes, read by demo/detector.py.

    python dev.py bench demo [--seeds 200] [--offset 0] [--images FOLDER] [--json FILE]

One prompt at a time: Longreel Demo Model, CLIP Text Encode, KSampler, VAE Decode. A clip counts as right when the
detector reads what the prompt says; the prompts are attribute combinations that training never saw. Every case is one
clip of a prompt of its own, and right or wrong in each attribute: intervals are Wilson's.
"""

import random

import torch

from tests.bench_support import bar_chart, call, contact_sheet, measuring, parser, percent, start_comfyui, table

nodes = start_comfyui()

from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from longreel.demo import world
from longreel.demo.detector import read_clip
from longreel.nodes.demo_model import LongreelDemoModel

FRAMES = {1: 1, 5: 17, 6: 21}  # latent frames -> pixel frames
LATENT_CHANNELS, LATENT_SIDE = 16, world.SIZE_PIXELS // 8
ATTRIBUTES = ("background", "color", "shape", "motion", "all")


class Sampler:
    """The plain core path from a prompt to frames."""

    def __init__(self, steps: int, cfg: float, shift: float):
        self.model, self.clip, self.vae = call(LongreelDemoModel)
        (self.model,) = call(ModelSamplingSD3, model=self.model, shift=shift)
        (self.negative,) = call(nodes.CLIPTextEncode, clip=self.clip, text="")
        self.steps, self.cfg = steps, cfg

    def __call__(self, prompt: str, seed: int, latent_frames: int) -> torch.Tensor:
        """-> frames [F, 64, 64, 3], 0..1."""
        (positive,) = call(nodes.CLIPTextEncode, clip=self.clip, text=prompt)
        empty = torch.zeros(1, LATENT_CHANNELS, latent_frames, LATENT_SIDE, LATENT_SIDE)
        (latent,) = call(
            nodes.KSampler,
            model=self.model,
            seed=seed,
            steps=self.steps,
            cfg=self.cfg,
            sampler_name="euler",
            scheduler="simple",
            positive=positive,
            negative=self.negative,
            latent_image={"samples": empty},
            denoise=1.0,
        )
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=latent)
        return frames.reshape(-1, world.SIZE_PIXELS, world.SIZE_PIXELS, 3).clamp(0, 1)


def scenes(count: int, offset: int, held_out: bool = True, frames: int = world.CLIP_FRAMES) -> list[world.Scene]:
    """Case i is the same whatever `count` is."""
    return [world.random_scene(random.Random(1_000_003 * frames + offset + i), frames, held_out) for i in range(count)]


def prompted(sample: Sampler, latent_frames: int, count: int, offset: int) -> dict:
    """Figures for `count` held-out prompts, and the first clips for the sheet."""
    single = latent_frames == 1
    naming = ("color", "shape", "background") if single else ("color", "shape", "motion", "background")
    right, clips, captions, wrong = dict.fromkeys(ATTRIBUTES, 0), [], [], []
    for i, scene in enumerate(scenes(count, offset, frames=FRAMES[latent_frames])):
        text = world.prompt(scene, naming)
        video = sample(text, 5000 + offset + i, latent_frames)
        reading = read_clip(video)
        verdict = reading.agrees(scene)
        for name, ok in verdict.items():
            right[name] += ok
        clips.append(video)
        missed = " ".join(f"{n}={getattr(reading, n)}" for n in verdict if n != "all" and not verdict[n])
        captions.append(text + (f"   READ {missed}" if missed else ""))
        if missed:
            wrong.append(captions[-1])
    if single:
        right.pop("motion")
    return {"right": right, "of": count, "clips": clips, "captions": captions, "wrong": wrong}


def unnamed_colors(sample: Sampler, count: int, offset: int) -> dict[str, int]:
    """Which colour does the model choose when the prompt names none?"""
    drawn = dict.fromkeys((*world.COLORS, "none"), 0)
    for i, scene in enumerate(scenes(count, offset + 10_000, held_out=False)):
        text = world.prompt(scene, ("shape", "motion", "background"))
        drawn[read_clip(sample(text, 9000 + offset + i, 5)).color or "none"] += 1
    return drawn


def vae_psnr(vae, count: int, offset: int) -> list[float]:
    """Mean over all frames of each held-out clip of 17 frames, decibels."""
    found = []
    for scene in scenes(count, offset + 20_000, frames=17):
        clip = world.render(scene, 17).permute(0, 2, 3, 1)
        (latent,) = call(nodes.VAEEncode, pixels=clip, vae=vae)
        (frames,) = call(nodes.VAEDecode, vae=vae, samples=latent)
        error = (frames.reshape(clip.shape).clamp(0, 1).float() - clip).square().mean()
        found.append(float(-10 * torch.log10(error)))
    return found


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=200)
    arguments.add_argument("--steps", type=int, default=16)
    arguments.add_argument("--cfg", type=float, default=4.0)
    arguments.add_argument("--shift", type=float, default=8.0, help="ModelSamplingSD3; 8 is Wan's own")
    options = arguments.parse_args()
    few = max(1, options.seeds // 4)
    with measuring(options) as figures:
        sample = Sampler(options.steps, options.cfg, options.shift)
        rows = []
        for latent_frames, count in ((5, options.seeds), (6, few), (1, few)):
            result = prompted(sample, latent_frames, count, options.offset)
            rows.append(
                [f"{FRAMES[latent_frames]} frames, {count} prompts"]
                + [percent(result["right"][a], count) if a in result["right"] else "-" for a in ATTRIBUTES]
            )
            figures[f"latent_frames_{latent_frames}"] = {k: result[k] for k in ("right", "of", "wrong")}
            if options.images:
                contact_sheet(
                    result["clips"][:12],
                    result["captions"][:12],
                    options.images / f"demo_{FRAMES[latent_frames]}.png",
                    every=2,
                )
        print(table(["held-out prompts, Wilson's 95 %", *ATTRIBUTES], rows))
        colors = unnamed_colors(sample, options.seeds, options.offset)
        total = sum(colors.values())
        print(
            "\n"
            + table(
                ["colour when none is named", "clips", "share"],
                [[name, n, f"{100 * n / total:.0f} %"] for name, n in colors.items()],
            )
        )
        psnr = vae_psnr(sample.vae, min(24, few), options.offset)
        print(
            f"\nVAE, {len(psnr)} held-out clips of 17 frames: {sum(psnr) / len(psnr):.1f} dB mean PSNR, "
            f"worst {min(psnr):.1f} dB"
        )
        figures.update(unnamed_colors=colors, vae_psnr_decibels={"mean": sum(psnr) / len(psnr), "worst": min(psnr)})
        if options.images:
            bar_chart(
                {k: v / total for k, v in colors.items()},
                options.images / "demo_colors.png",
                "share of clips by colour when the prompt names none (line: 30 %)",
                mark=0.3,
            )


if __name__ == "__main__":
    main()
