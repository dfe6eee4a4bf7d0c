"""Encodes the clips that the anchor LoRA learns from, each with a picture of one of its later frames.

    python -m longreel.demo.encode_anchors OUT_LATENTS [--clips 8000] [--seed 61] [--weights WEIGHTS]

Three of four clips show two objects (demo/pair_world.py), the others one; for a model of the picture book they are its
pages, of one to three things. The VAE is the one in demo/weights, or that of the folder WEIGHTS. A user's
picture is encoded by itself, and then always looks like a first frame to a causal VAE; so besides the clip's own
latents one of its later frames is encoded so too. Held-out combinations are not encoded.
"""

import argparse
import random
import time
from pathlib import Path

import torch

from . import pair_world, twin, vae_net, world
from .latents import encode
from .picture_book import book, draws
from .picture_book.book import Page

PAIRS = 0.75  # of the clips
SHORTER = 0.4  # share of the clips whose movement fits 17 frames alone: they start in more places
BATCH = 16
Scene = world.Scene | pair_world.PairScene | Page


def random_scene(rng: random.Random, frames: int, of_book: bool) -> Scene:
    """A scene or a page of the picture book whose things stay inside for as many pixel frames."""
    if of_book:
        return draws.random_page(rng, frames)
    return pair_world.random_pair(rng, frames) if rng.random() < PAIRS else world.random_scene(rng, frames)


def render(scene: Scene) -> torch.Tensor:
    """[F, 3, H, W] in 0..1, always of the same length."""
    if isinstance(scene, Page):
        return book.render(scene, world.CLIP_FRAMES)
    return (pair_world if isinstance(scene, pair_world.PairScene) else world).render(scene)


def encode_frames(vae: vae_net.VAE, video: torch.Tensor) -> torch.Tensor:
    """[B, F, 3, H, W] in 0..1 -> latents [B, 16, 1 + (F - 1) / 4, H / 8, W / 8] as the network is trained on them."""
    return encode(vae, video.transpose(1, 2) * 2 - 1).half()


@torch.no_grad()
def main() -> None:
    """Read the command line, and do what the module says."""
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=Path)
    args.add_argument("--clips", type=int, default=8000)
    args.add_argument("--seed", type=int, default=61)
    args.add_argument("--weights", type=Path, default=twin.WEIGHTS)
    opts = args.parse_args()
    torch.set_num_threads(1)  # the small operations of rendering lose more to waiting than they gain
    vae = twin.vae(opts.weights / twin.VAE)
    of_book = twin.knows_picture_book(twin.text(opts.weights))
    vae_net.compile_norms()
    rng, started = random.Random(opts.seed), time.time()
    found: dict[str, list] = {"latents": [], "pictures": [], "picture_at": [], "scenes": [], "latent_frames": []}
    while len(found["scenes"]) < opts.clips:
        batch, pictures = [], []
        for _ in range(BATCH):
            frames = 17 if rng.random() < SHORTER else world.CLIP_FRAMES
            scene = random_scene(rng, frames, of_book)
            batch.append(render(scene))
            later = rng.randrange(1, 1 + (frames - 1) // 4)
            pictures.append(batch[-1][4 * later - rng.randrange(4)][None])  # latent frame i holds frames 4i - 3 to 4i
            found["scenes"].append(scene)
            found["picture_at"].append(later)
            found["latent_frames"].append(1 + (frames - 1) // 4)
        found["latents"].append(encode_frames(vae, torch.stack(batch)))
        found["pictures"].append(encode_frames(vae, torch.stack(pictures)))
        if len(found["scenes"]) % 2000 < BATCH:
            done = len(found["scenes"])
            print(done, f"{(time.time() - started) / done * 1e3:.1f} ms per clip", flush=True)
    torch.save({**found, "latents": torch.cat(found["latents"]), "pictures": torch.cat(found["pictures"])}, opts.out)


if __name__ == "__main__":
    main()
