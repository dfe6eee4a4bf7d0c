"""Renders and encodes the stories that the bundled TTT layers learn from: a data set of longreel.training.

    python -m longreel.demo.encode_stories FOLDER [--stories 1600] [--segments 10] [--seed 0]

Each story is two files, its latent and its storyboard (training/dataset.py says how they are read). A story depends on
the seed and its number alone; those that are there already are left as they are, so the same command goes on where it
was stopped, and a larger --stories adds to a folder. The VAE is the bundled one in its fast form.
"""

import argparse
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..engine.runs.whole_file import save_whole
from . import stories, vae_net
from .encode_clips import VAE_FILE, WAN_MEAN, WAN_STD, WEIGHTS, per_channel

LATENT_NAME = "latent"  # as training/dataset.py reads it


def bundled_vae() -> vae_net.VAE:
    """The VAE of demo/weights in float32, not to be trained."""
    vae = vae_net.VAE().eval().requires_grad_(False)
    vae.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS / VAE_FILE).items()})
    return vae


@torch.no_grad()
def encode(vae: vae_net.VAE, video: torch.Tensor) -> torch.Tensor:
    """Video [F, 3, H, W] in 0..1 -> latent [16, 1 + (F - 1) / 4, H / 8, W / 8] float32, as the network is trained."""
    pixels = (video.transpose(0, 1)[None] * 2 - 1).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    mean, _ = vae.moments(pixels)
    return ((mean.float() - per_channel(WAN_MEAN)) / per_channel(WAN_STD))[0]


@torch.no_grad()
def decode(vae: vae_net.VAE, latent: torch.Tensor) -> torch.Tensor:
    """Latent [16, F, h, w] -> video [4 F - 3, 8 h, 8 w, 3] in 0..1"""
    video = vae.decode(latent[None].float() * per_channel(WAN_STD) + per_channel(WAN_MEAN))[0]
    return ((video.permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1)


def training_story(seed: int, number: int, segments: int) -> stories.Story:
    """The story that file `number` holds."""
    return stories.training_story(segments, random.Random(f"{seed} {number}"))


def write(folder: Path, number: int, story: stories.Story, latent: torch.Tensor) -> None:
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
    opts = args.parse_args()
    torch.set_num_threads(1)  # the small operations of rendering lose more to waiting than they gain
    opts.folder.mkdir(parents=True, exist_ok=True)
    vae, started = bundled_vae(), time.time()
    vae_net.compile_norms()
    missing = [number for number in range(opts.stories) if not (opts.folder / f"{number:05}.json").exists()]
    for done, number in enumerate(missing, start=1):
        story = training_story(opts.seed, number, opts.segments)
        write(opts.folder, number, story, encode(vae, story.render()))
        if done % 100 == 0 or done == len(missing):
            print(f"{done} of {len(missing)} stories, {(time.time() - started) / done:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
