"""Trains the picture book's VAE on rendered pages.

Shape world's recipe (demo/train_vae.py: its network, optimisers and loss) at width 12 instead of 8: drawings of 24
pixels have more to say than flat shapes. Most of the time it sees windows of 64 pixels around a thing, images first,
then clips of growing length; the last quarter are whole pages. The learning rate decays to nearly nothing, where most
of the quality comes from. Long after, when the latents have been learned, the decoder goes on alone (`finish_decoder`):
what is encoded stays as it is.
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

from .. import vae_net, world
from ..train_vae import FINISH_RATE, Learner, psnr
from . import book, draws, running, scenes, sprites

DIM = 12
HOURS, DECODER_HOURS = 2.2, 0.8  # of one core
# share of the time, pixel frames, batch, side, learning rate at the start and at the end of the phase
PHASES = (
    (0.12, 1, 24, 64, 2e-3, 2e-3),
    (0.20, 5, 6, 64, 2e-3, 1.8e-3),
    (0.43, 17, 3, 64, 1.8e-3, 6e-4),
    (0.25, 17, 2, 96, 6e-4, 2e-5),
)
REPORT_SECONDS = 300  # of work
THING_WEIGHT = 3.0  # of a pixel of a thing in the loss: they are a twentieth of the picture, and what it is about
FREE = 0.15  # share of the clips with things off the grid, at any speed, that may overlap


def free_page(rng: random.Random, frames: int, place: str) -> torch.Tensor:
    """[F, 3, 96, 96]: one to three drawings anywhere, so that the VAE also draws what blends produce."""
    video = scenes.draw(place, book.SIDE).expand(frames, -1, -1, -1).clone()
    for _ in range(rng.choice((1, 2, 3))):
        kind, coat = rng.choice(sprites.KINDS), rng.choice(book.COATS)
        drawing = sprites.drawing(kind, coat, rng.choice(book.SIZES), rng.random() < 0.5)
        x, y = rng.uniform(8, 88), rng.uniform(8, 88)
        dx, dy = rng.uniform(-2.5, 2.5), rng.uniform(-2.5, 2.5)
        for t, frame in enumerate(video):
            book.paste(frame, *drawing, x + dx * t, y + dy * t)
    return video


def clip(rng: random.Random, frames: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[F, 3, side, side] in 0..1, a page or a window of one, mostly around its first thing; and the place under it."""
    if rng.random() < FREE:
        place = rng.choice(scenes.PLACES)
        video, (x, y) = free_page(rng, frames, place), (rng.uniform(0, 96), rng.uniform(0, 96))
    elif side == world.SIZE_PIXELS and rng.random() < 0.25:  # pages of 64 pixels, whose scenes are smaller
        page = draws.random_page(rng, frames, side=side)
        return book.render(page, frames), scenes.draw(page.place, side)
    else:
        page = draws.random_page(rng, max(frames, 17))
        place, video, (x, y) = page.place, book.render(page, frames), (page.things[0].x, page.things[0].y)
    under = scenes.draw(place, book.SIDE)
    if side == book.SIDE:
        return video, under
    left, top = (min(max(round(at - side / 2 + rng.uniform(-16, 16)), 0), book.SIDE - side) for at in (x, y))
    window = (..., slice(top, top + side), slice(left, left + side))
    return video[window], under[window]


def clips(rng: random.Random, frames: int, count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, 3, F, side, side] in -1..1, and how much each pixel counts [B, 1, F, side, side]: things more than places."""
    drawn = [clip(rng, frames, side) for _ in range(count)]
    there = torch.stack([((video - under).abs().amax(1, keepdim=True) > 0.02).float() for video, under in drawn])
    video = torch.stack([video for video, _ in drawn]) * 2 - 1
    return video.transpose(1, 2), 1 + (THING_WEIGHT - 1) * there.transpose(1, 2)


def held_out_clips(count: int, frames: int = 17) -> torch.Tensor:
    """[count, 3, F, 96, 96] in -1..1, always the same, of pages that training never sees."""
    rng = random.Random(999)
    pages = [draws.random_page(rng, frames, held_out_ones=True) for _ in range(count)]
    return torch.stack([book.render(page, frames) for page in pages]).transpose(1, 2) * 2 - 1


def phase_at(progress: float) -> tuple[int, int, int, float]:
    """Progress 0..1 -> pixel frames, batch, side, learning rate (cosine within a phase)."""
    start = 0.0
    for share, frames, batch, side, first, last in PHASES:
        if progress < start + share or (frames, side) == (PHASES[-1][1], PHASES[-1][3]):
            inside = min(1.0, (progress - start) / share)
            return frames, batch, side, last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * inside))
        start += share
    raise AssertionError("the last phase ends the loop")


def train(work: Path, hours: float, stop: running.Stop) -> bool:
    """Train until `hours` of work are done -> whether they are. WORK/vae.pt is the checkpoint, WORK/vae.log the log."""
    torch.manual_seed(1)
    learner = Learner(DIM, decoder_alone=False, device=running.device())
    return _train(learner, work, "vae", hours, phase_at, stop)


def finish_decoder(work: Path, vae: vae_net.VAE, hours: float, stop: running.Stop) -> bool:
    """Train the decoder of a finished VAE for `hours` more -> whether they are done; WORK/decoder.pt and .log as above.

    `vae` has the trained decoder then, also where it was stopped on the way.
    """
    torch.manual_seed(2)
    learner = Learner(DIM, decoder_alone=True, device=running.device())
    learner.vae.load_state_dict(vae.state_dict())
    done = _train(learner, work, "decoder", hours, decoder_phase_at, stop)
    vae.load_state_dict(learner.vae.state_dict())
    return done


def decoder_phase_at(progress: float) -> tuple[int, int, int, float]:
    """Progress 0..1 of the decoder alone -> pixel frames, batch, side, learning rate."""
    _, frames, batch, side, *_ = PHASES[-1]
    return frames, batch, side, FINISH_RATE * max(0.02, 0.5 + 0.5 * math.cos(math.pi * progress))


def _train(
    learner: Learner,
    work: Path,
    name: str,
    hours: float,
    phase: Callable[[float], tuple[int, int, int, float]],
    stop: running.Stop,
) -> bool:
    """Train until `hours` of work are done -> whether they are. phase: progress -> frames, batch, side, rate."""
    checkpoint = work / f"{name}.pt"
    if checkpoint.exists():
        learner.load(checkpoint)
    rng = random.Random(1 + learner.step)
    end, done_before = hours * 3600, learner.seconds
    if done_before >= end:
        return True
    vae_net.compile_norms()
    began, saved_at, reported_at = running.worked_seconds(), time.time(), done_before
    test = held_out_clips(12).to(running.device())
    while learner.seconds < end and not stop:
        frames, batch, side, rate = phase(learner.seconds / end)
        video, weight = (t.to(running.device()) for t in clips(rng, frames, batch, side))
        video = video.bfloat16().contiguous(memory_format=torch.channels_last_3d)
        loss, kl = learner.update(video, rate * min(1.0, (learner.step + 1) / 30), weight)
        learner.seconds = done_before + running.worked_seconds() - began
        finished = learner.seconds >= end
        if learner.seconds - reported_at > REPORT_SECONDS or finished:
            quality = psnr(learner.vae, test if frames > 1 else test[:, :, :1])
            running.log(
                work, name, step=learner.step, seconds=learner.seconds, frames=frames, side=side, loss=loss, kl=kl,
                psnr=quality,
            )  # fmt: skip
            reported_at = learner.seconds
        if time.time() - saved_at > running.SAVE_SECONDS:
            learner.save(checkpoint)
            saved_at = time.time()
    learner.save(checkpoint)
    return learner.seconds >= end


def main() -> None:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--hours", type=float, default=HOURS, help="of one core")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    train(options.work, options.hours, running.Stop())


if __name__ == "__main__":
    main()
