"""Fits the colours in which ComfyUI shows a demo VAE's latents while it samples.

    python -m longreel.demo.fit_preview demo/weights/shapeworld_vae.safetensors

Core draws a preview as one linear map from a latent frame's channels to red, green and blue, a point for each latent
point (latent_rgb_factors of the model's latent format). Wan's own map belongs to Wan's VAE. Here it is a least squares
fit from latents to the pictures that they stand for, of clips of shape world, or of the picture book for a VAE of its
width. Writes VAE.preview.json beside the VAE, which hosts/demo_model.py hands to core. To be run again for another VAE.
"""

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from . import twin, vae_net
from .latents import encode
from .picture_book import book
from .picture_book import train_vae as picture_book
from .train_vae import clip_batch

CLIPS, FRAMES, BATCH = 96, 13, 8  # 13 pixel frames are 4 latent frames
STRIDE = 8  # pixels of a latent point
SUFFIX = ".preview.json"


def clips_for(vae: vae_net.VAE, seed: int, count: int) -> torch.Tensor:
    """[count, 3, F, H, W] in -1..1, of the world that a VAE of this width was made for."""
    rng = random.Random(seed)
    if vae.decoder.head[2].weight.shape[1] == picture_book.DIM:
        return picture_book.clips(rng, FRAMES, count, book.SIDE)[0]
    return clip_batch(rng, FRAMES, count)


def points(video: torch.Tensor) -> torch.Tensor:
    """[N, 3]: the mean colour of every latent point of clips [B, 3, F, H, W]: of the first frame, then of each four."""
    height, width = (side // STRIDE for side in video.shape[-2:])
    frames = 1 + (video.shape[2] - 1) // 4
    first, rest = video[:, :, :1], video[:, :, 1:].unflatten(2, (frames - 1, 4)).mean(3)
    means = F.adaptive_avg_pool3d(torch.cat([first, rest], 2), (frames, height, width))
    return means.movedim(1, -1).flatten(0, 3)


@torch.no_grad()
def fit(vae: vae_net.VAE, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors [C, 3] and bias [3] from latents as the network has them to colours in -1..1."""
    latents = torch.cat([encode(vae, part) for part in video.split(BATCH)])
    known = latents.movedim(1, -1).flatten(0, 3)  # [N, C]
    known = torch.cat([known, torch.ones(len(known), 1)], 1)
    solution = torch.linalg.lstsq(known, points(video)).solution
    return solution[:-1], solution[-1]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vae", type=Path, help="a finished VAE of the demo")
    file = parser.parse_args().vae
    vae = twin.vae(file)
    factors, bias = fit(vae, clips_for(vae, 0, CLIPS))
    out = file.with_name(file.stem + SUFFIX)
    rows = [json.dumps([round(value, 4) for value in row.tolist()]) for row in [*factors, bias]]
    text = ",\n  ".join(rows[:-1])
    out.write_text(f'{{\n "factors": [\n  {text}\n ],\n "bias": {rows[-1]}\n}}\n', encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
