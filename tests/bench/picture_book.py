"""How good is a model of the picture book? Held-out pages, sampled through ComfyUI's own nodes, read by its reader.

    python dev.py bench picture_book [--weights FOLDER] [--seeds 200] [--offset 0] [--side 96] [--images FOLDER]

FOLDER holds the three files that `python -m longreel.demo.picture_book.train WORK --export FOLDER` writes, or as long
as no transformer has begun the VAE alone: then nothing is sampled. A clip is
right where the reader (demo/picture_book/reader.py) reads what its sentence says, and right *everywhere* where no frame
is broken besides. Every page has a combination that training never saw. The rows *drawn* and *through the VAE* are the
same pages without the model: what the reader and the VAE alone lose. Every case is one clip of a page of its own:
intervals are Wilson's.
"""

import random
from collections import Counter
from pathlib import Path

import torch

from tests.bench_support import call, contact_sheet, measuring, parser, percent, start_comfyui, table

nodes = start_comfyui()

from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from longreel.demo import twin
from longreel.demo.picture_book import book, draws, prompts, scenes, sprites
from longreel.demo.picture_book.book import Page
from longreel.demo.picture_book.reader import read_page
from longreel.hosts import demo_model

CHANNELS = 16
BATCH = 8  # pages sampled at once
ATTRIBUTES = ("kind", "coat", "place", "movement", "number", "all", "everywhere")
UNNAMED = {"coat": book.COATS, "kind": sprites.KINDS, "place": scenes.PLACES}


class Sampler:
    """The plain core path from prompts to frames, several prompts at once."""

    def __init__(self, folder: Path, steps: int, cfg: float, shift: float):
        model, self.clip, self.vae = demo_model.load_demo_model(folder)
        (self.model,) = call(ModelSamplingSD3, model=model, shift=shift)
        self.steps, self.cfg = steps, cfg

    def encode(self, texts: list[str]) -> list:
        """Return one conditioning whose rows are the prompts."""
        found = [call(nodes.CLIPTextEncode, clip=self.clip, text=text)[0][0] for text in texts]
        return [[torch.cat([cond for cond, _ in found]), dict(found[0][1])]]

    def __call__(self, texts: list[str], seed: int, latent_frames: int, side: int) -> torch.Tensor:
        """-> frames [B, F, side, side, 3], 0..1."""
        empty = torch.zeros(len(texts), CHANNELS, latent_frames, side // 8, side // 8)
        (latent,) = call(
            nodes.KSampler,
            model=self.model,
            seed=seed,
            steps=self.steps,
            cfg=self.cfg,
            sampler_name="euler",
            scheduler="simple",
            positive=self.encode(texts),
            negative=self.encode([""] * len(texts)),
            latent_image={"samples": empty},
            denoise=1.0,
        )
        (frames,) = call(nodes.VAEDecode, vae=self.vae, samples=latent)
        return frames.reshape(len(texts), -1, side, side, 3).clamp(0, 1)


def pages(count: int, offset: int, side: int, frames: int, held_out: bool = True) -> list[Page]:
    """Case i is the same whatever `count` is."""
    return [
        draws.random_page(random.Random(7_000_003 * frames + offset + i), frames, side=side, held_out_ones=held_out)
        for i in range(count)
    ]


def verdict(video: torch.Tensor, page: Page) -> dict[str, bool]:
    """Each of ATTRIBUTES -> whether the video [F, H, W, 3] shows it."""
    read = read_page(video)
    right = read.agrees(page)
    return {**right, "everywhere": right["all"] and not bool(read.broken.any())}


def sampled(sample: Sampler, drawn: list[Page], texts: list[str], offset: int, side: int, latent_frames: int):
    """Yield (page, text, frames [F, H, W, 3])."""
    for start in range(0, len(drawn), BATCH):
        part = slice(start, start + BATCH)
        videos = sample(texts[part], 5000 + offset + start, latent_frames, side)
        yield from zip(drawn[part], texts[part], videos, strict=True)


def through_vae(vae, video: torch.Tensor) -> tuple[torch.Tensor, float]:
    """[F, H, W, 3] -> the same encoded and decoded, and the peak signal to noise ratio in decibels."""
    (latent,) = call(nodes.VAEEncode, pixels=video, vae=vae)
    (frames,) = call(nodes.VAEDecode, vae=vae, samples=latent)
    frames = frames.reshape(video.shape).clamp(0, 1).float()
    return frames, float(-10 * torch.log10((frames - video).square().mean()))


def unnamed(sample: Sampler, attribute: str, count: int, offset: int, side: int) -> Counter[str]:
    """What the model draws where the sentence does not name one attribute: pages of one drawing, combinations seen."""
    rng = random.Random(offset + 77)
    drawn = []
    while len(drawn) < count:
        page = draws.random_page(rng, 17, side=side, number=1)
        if not page.things[0].is_shape:
            drawn.append(page)
    said = tuple(name for name in prompts.ATTRIBUTES if name != attribute)
    found: Counter[str] = Counter()
    for _, _, video in sampled(sample, drawn, [prompts.prompt(page, said) for page in drawn], offset + 9000, side, 5):
        read = read_page(video)
        if attribute == "place":
            found[read.place or "none"] += 1
        else:
            found[getattr(read.things[0], attribute) if read.things else "none"] += 1
    return found


def without_model(vae, drawn: list[Page], frames: int) -> tuple[dict[str, Counter[str]], list[float]]:
    """What the reader reads of the pages as they are drawn and through the VAE, and the decibels of the latter."""
    right: dict[str, Counter[str]] = {"drawn": Counter(), "through the VAE": Counter()}
    decibels = []
    for page in drawn:
        video = book.render(page, frames).permute(0, 2, 3, 1)
        decoded, quality = through_vae(vae, video)
        for counts, seen in zip(right.values(), (video, decoded), strict=True):
            counts.update(name for name, ok in verdict(seen, page).items() if ok)
        decibels.append(quality)
    return right, decibels


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=200)
    arguments.add_argument("--weights", type=Path, default=demo_model.WEIGHTS, help="folder of the three files")
    arguments.add_argument("--side", type=int, default=book.SIDE, choices=(64, book.SIDE))
    arguments.add_argument("--latent-frames", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=16)
    arguments.add_argument("--cfg", type=float, default=4.0)
    arguments.add_argument("--shift", type=float, default=8.0, help="ModelSamplingSD3; 8 is Wan's own")
    options = arguments.parse_args()
    frames, side = 1 + 4 * (options.latent_frames - 1), options.side
    with measuring(options) as figures:
        begun = (options.weights / demo_model.MODEL_FILE).exists()
        sample = Sampler(options.weights, options.steps, options.cfg, options.shift) if begun else None
        drawn = pages(options.seeds, options.offset, side, frames)
        texts = [prompts.fitting(page, prompts.ATTRIBUTES) for page in drawn]
        vae = sample.vae if sample else nodes.comfy.sd.VAE(sd=twin.read(options.weights / demo_model.VAE_FILE))
        right, decibels = without_model(vae, drawn, frames)
        clips, captions = [], []
        shots = sampled(sample, drawn, texts, options.offset, side, options.latent_frames) if sample else ()
        for page, text, video in shots:
            found = verdict(video, page)
            right.setdefault("sampled", Counter()).update(name for name, ok in found.items() if ok)
            missed = [name for name in ATTRIBUTES if not found.get(name, True) and name != "all"]
            clips.append(video)
            captions.append(text + (f"   NOT {' '.join(missed)}" if missed else ""))
        shown = [name for name in ATTRIBUTES if frames > 1 or name != "movement"]
        rows = [[name, *(percent(counts[a], len(drawn)) for a in shown)] for name, counts in right.items()]
        print(table([f"{frames} frames, {side} pixels, {len(drawn)} held-out pages", *shown], rows))
        print(f"\nVAE: {sum(decibels) / len(decibels):.1f} dB on average, the worst {min(decibels):.1f} dB\n")
        choices = {}
        for attribute, values in UNNAMED.items() if sample and options.latent_frames == 5 else ():
            counts = choices[attribute] = unnamed(sample, attribute, options.seeds, options.offset, side)
            name = max(values, key=lambda value: counts[value])
            never, times = sum(not counts[value] for value in values), counts[name] * len(values) / options.seeds
            print(
                f"{attribute} not named: {name} most often, {times:.1f} times as often as by chance; {never} of "
                f"{len(values)} never; not read {counts['none']}"
            )
        figures.update(
            right={name: dict(counts) for name, counts in right.items()}, of=len(drawn), captions=captions,
            vae_decibels=decibels, unnamed={name: dict(counts) for name, counts in choices.items()},
        )  # fmt: skip
        if options.images and clips:
            contact_sheet(clips[:40], captions[:40], options.images / f"picture_book_{side}_{frames}.png", every=4)


if __name__ == "__main__":
    main()
