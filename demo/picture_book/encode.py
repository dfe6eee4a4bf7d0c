"""Finishes the picture book's VAE and encodes the training clips, in small files that are made once each.

Six groups: pictures and clips of 17 to 21 frames at 96 and at 64 pixels, clips of 49 frames, and clips of 33 frames
with a cut behind the seventeenth, where a latent frame begins. Held-out combinations are in none of them. A file
depends on its own seed alone, so that an encoding which was stopped goes on where it was.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .. import train_vae as shape_world_vae
from .. import twin, vae_net
from ..encode_clips import fold_statistics
from ..latents import encode
from . import book, draws, running, train_vae
from .book import Page

VAE_FILE = "vae.safetensors"
FINISHED = "decoder_alone"  # in the metadata of a VAE whose decoder went on alone: what came of it
BATCH = 8
CUT_FRAMES = (17, 16)  # of the two shots of a clip with a cut: 5 and 4 latent frames
SAME_THING = 0.85  # share of the clips with a cut that show one thing on both sides


@dataclass(frozen=True)
class Group:
    """`frames` pixel frames are encoded; the page of a clip stays inside for one of `inside` (the rest is not used)."""

    side: int
    frames: int
    inside: tuple[int, ...]
    files: int
    per_file: int


GROUPS = {
    "pictures": Group(96, 1, (17,), 6, 1000),
    "pictures64": Group(64, 1, (17,), 3, 1000),
    "clips64": Group(64, 21, (17, 21), 40, 250),
    "clips": Group(96, 21, (17, 21), 40, 250),
    "cuts": Group(96, sum(CUT_FRAMES), CUT_FRAMES, 10, 250),
    "long": Group(96, 49, (49,), 6, 250),
}


def finish_vae(work: Path) -> None:
    """Fold the latents' statistics into the trained VAE, and write WORK/vae.safetensors as ComfyUI loads it."""
    vae = vae_net.VAE(train_vae.DIM)
    vae.load_state_dict(torch.load(work / "vae.pt", map_location="cpu")["vae"])
    rng = random.Random(42)
    with torch.no_grad():
        sample, _ = train_vae.clips(rng, 17, 24, book.SIDE)
        shares = fold_statistics(vae, sample)
        quality = shape_world_vae.psnr(vae, train_vae.held_out_clips(24))
    running.log(work, "finish", psnr=quality, content=[round(v, 2) for v in shares.tolist()])
    _save(vae, work / VAE_FILE)


def _save(vae: vae_net.VAE, file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a VAE as ComfyUI loads it; an older file stays until the new one is complete."""
    unfinished = file.with_suffix(".unfinished")
    state = {k: v.half().cpu().contiguous() for k, v in vae.state_dict().items()}
    save_file(state, unfinished, metadata=metadata)
    unfinished.replace(file)


def finish_decoder(work: Path, hours: float, stop: running.Stop) -> bool:
    """Train the decoder of WORK/vae.safetensors alone, and write it there when that is done -> whether it is."""
    vae = twin.vae(work / VAE_FILE)
    with safe_open(work / VAE_FILE, "pt") as file:
        if (file.metadata() or {}).get(FINISHED):
            return True
    if not train_vae.finish_decoder(work, vae, hours, stop):
        return False
    quality = shape_world_vae.psnr(vae, train_vae.held_out_clips(24))
    running.log(work, "finish", psnr=quality)
    _save(vae, work / VAE_FILE, {FINISHED: f"{quality:.1f} dB"})
    return True


def draw_pages(group: str, rng: random.Random) -> tuple[tuple[Page, ...], int]:
    """The shots of one clip of a group, and how many of its pixel frames are right."""
    kind = GROUPS[group]
    if group == "cuts":
        first = draws.random_page(rng, CUT_FRAMES[0], side=kind.side, number=1)
        same = rng.random() < SAME_THING
        second = (
            draws.next_page(first, rng, CUT_FRAMES[1])
            if same
            else draws.random_page(rng, CUT_FRAMES[1], side=kind.side, number=1)
        )
        return (first, second), kind.frames
    inside = rng.choice(kind.inside)
    return (draws.random_page(rng, inside, side=kind.side),), min(inside, kind.frames)


def render(pages: tuple[Page, ...], frames: int) -> torch.Tensor:
    """The shots of a clip, one behind the other -> [F, 3, H, W] in 0..1."""
    if len(pages) == 1:
        return book.render(pages[0], frames)
    return torch.cat([book.render(page, count) for page, count in zip(pages, CUT_FRAMES, strict=True)])


def encode_file(vae: vae_net.VAE, group: str, number: int, file: Path) -> None:
    """Draw, render and encode the clips of one file."""
    kind, rng = GROUPS[group], random.Random(f"{group} {number}")
    drawn = [draw_pages(group, rng) for _ in range(kind.per_file)]
    latents = []
    batch = BATCH * (8 if kind.frames == 1 else 1)
    for start in range(0, len(drawn), batch):
        clips = [render(pages, kind.frames) for pages, _ in drawn[start : start + batch]]
        video = torch.stack(clips).transpose(1, 2) * 2 - 1
        latents.append(encode(vae, video.to(running.device())).cpu().half())
    valid = torch.tensor([1 + (frames - 1) // 4 for _, frames in drawn])
    running.save({"latents": torch.cat(latents), "pages": [pages for pages, _ in drawn], "latent_frames": valid}, file)


def encode_groups(work: Path, stop: running.Stop, files: Mapping[str, int]) -> bool:
    """Make what is missing of the first so many files of each group -> whether all are there. Stops between files."""
    if not (work / VAE_FILE).exists():
        finish_vae(work)
    (work / "latents").mkdir(exist_ok=True)
    wanted = [(group, number) for group in GROUPS for number in range(files.get(group, 0))]
    missing = {one: work / "latents" / "{}_{:03d}.pt".format(*one) for one in wanted}
    missing = {one: file for one, file in missing.items() if not file.exists()}
    if not missing:
        return True
    vae = twin.vae(work / VAE_FILE).to(running.device())
    vae_net.compile_norms()
    for (group, number), file in missing.items():
        if stop:
            return False
        began = running.worked_seconds()
        encode_file(vae, group, number, file)
        per_clip = (running.worked_seconds() - began) / GROUPS[group].per_file
        running.log(work, "encode", file=file.name, seconds_per_clip=per_clip)
    return True
