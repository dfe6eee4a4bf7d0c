"""Renders and encodes the stories that the bundled TTT layers learn from: a data set of longreel.training.

    python -m longreel.demo.encode_stories FOLDER [--stories 1600] [--segments 10] [--seed 0] [--weights WEIGHTS]

Each story is two files, its latent and its storyboard (training/dataset.py says how they are read). A story depends on
the seed and its number alone; those that are there already are left as they are, so the same command goes on where it
was stopped, and a larger --stories adds to a folder. The VAE is the bundled one in its fast form, or that of the folder
WEIGHTS; a model of the picture book is told the picture book's stories.
"""

import argparse
import random
import time
from pathlib import Path
from types import ModuleType

import torch

from ..engine.runs.whole_file import save_whole
from . import latents, stories, text_encoder, twin, vae_net
from .picture_book import stories as book_stories

Story = stories.Story | book_stories.Story
LATENT_NAME = "latent"  # as training/dataset.py reads it


def stories_for(encoder: text_encoder.TextEncoder) -> ModuleType:
    """The module whose stories a model with this text encoder understands."""
    return book_stories if twin.knows_picture_book(encoder) else stories


def encode(vae: vae_net.VAE, video: torch.Tensor) -> torch.Tensor:
    """Video [F, 3, H, W] in 0..1 -> latent [16, 1 + (F - 1) / 4, H / 8, W / 8] float32, as the network is trained."""
    return latents.encode(vae, video.transpose(0, 1)[None] * 2 - 1)[0]


def decode(vae: vae_net.VAE, latent: torch.Tensor) -> torch.Tensor:
    """Latent [16, F, h, w] -> video [4 F - 3, 8 h, 8 w, 3] in 0..1"""
    return (latents.decode(vae, latent[None].float())[0].permute(1, 2, 3, 0) + 1) / 2


def training_story(seed: int, number: int, segments: int, told: ModuleType = stories) -> Story:
    """The story that file `number` holds, of shape world or of another world's stories."""
    return told.training_story(segments, random.Random(f"{seed} {number}"))


def write(folder: Path, number: int, story: Story, latent: torch.Tensor) -> None:
    """The storyboard last: a story without one was not finished."""
    save_whole(folder / f"{number:05}.safetensors", {LATENT_NAME: latent.half().contiguous()}, {"kind": story.kind})
    (folder / f"{number:05}.json").write_text(story.storyboard().to_json(), encoding="utf-8")


def main() -> None:
    """Read the command line, and do what the module says."""
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("folder", type=Path)
    args.add_argument("--stories", type=int, default=1600)
    args.add_argument("--segments", type=int, default=10)
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--weights", type=Path, default=twin.WEIGHTS)
    opts = args.parse_args()
    torch.set_num_threads(1)  # the small operations of rendering lose more to waiting than they gain
    opts.folder.mkdir(parents=True, exist_ok=True)
    vae, told, started = twin.vae(opts.weights / twin.VAE), stories_for(twin.text(opts.weights)), time.time()
    vae_net.compile_norms()
    missing = [number for number in range(opts.stories) if not (opts.folder / f"{number:05}.json").exists()]
    for done, number in enumerate(missing, start=1):
        story = training_story(opts.seed, number, opts.segments, told)
        write(opts.folder, number, story, encode(vae, story.render()))
        if done % 100 == 0 or done == len(missing):
            print(f"{done} of {len(missing)} stories, {(time.time() - started) / done:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
