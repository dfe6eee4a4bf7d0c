"""Trains the demo VAE on rendered clips.

    python -m longreel.demo.train_vae OUT_FOLDER [--minutes 14]
    python -m longreel.demo.train_vae OUT_FOLDER --finish-decoder 12     later: the latents stay as they are

Images first, then clips of growing length; the learning rate decays at the end, where most of the quality comes
from. Muon on the convolutions, AdamW on the rest. Loss: L1 + 2 MSE + a small KL that silences the latent channels
which this simple world does not need. A checkpoint every two minutes; the same command resumes.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch

from . import vae_net, world
from .muon import Muon

# share of the time, pixel frames, batch, learning rate (AdamW's; Muon's is 12 x) at start and end of the phase
PHASES = ((0.08, 1, 32, 2e-3, 2e-3), (0.25, 5, 8, 2e-3, 1.8e-3), (0.67, 17, 4, 1.8e-3, 2e-5))
MUON_RATIO = 12.0
FINISH_RATE = 2e-4
KL_WEIGHT = 2e-3
EDGES = ("encoder.conv1.weight", "decoder.head.2.weight", "conv1.weight", "conv2.weight")  # not for Muon
REPORT_SECONDS = 120
LONGEST_STEP_SECONDS = 5.0  # that count as training: compiling does not


def free_clip(rng: random.Random, frames: int) -> torch.Tensor:
    """Off the grid on purpose, with one or two shapes anywhere, so that the VAE also draws what blends produce."""
    objects = []
    for _ in range(rng.choice((1, 1, 2))):
        start = torch.tensor([rng.uniform(4, 60), rng.uniform(4, 60)])
        speed = torch.tensor([rng.uniform(-2.5, 2.5), rng.uniform(-2.5, 2.5)])
        centres = start + speed * torch.arange(frames)[:, None]
        objects.append((rng.choice(world.SHAPES), rng.choice(list(world.COLORS)), rng.uniform(9, 15), centres))
    return world.paint(rng.choice(list(world.BACKGROUNDS)), objects)


def clip_batch(rng: random.Random, frames: int, count: int) -> torch.Tensor:
    """[B, 3, F, H, W] in -1..1"""
    clips = [
        free_clip(rng, frames) if rng.random() < 0.2 else world.render(world.random_scene(rng, max(frames, 17)), frames)
        for _ in range(count)
    ]
    return torch.stack(clips).transpose(1, 2) * 2 - 1


def psnr(vae: vae_net.VAE, video: torch.Tensor) -> float:
    """Mean over clips, decibels, of decode(mean of encode(video)); video in -1..1."""
    with torch.no_grad():
        out = torch.cat([vae.decode(vae.moments(part)[0]) for part in video.split(4)]).clamp(-1, 1)
    error = ((out - video) ** 2).mean((1, 2, 3, 4)) / 4
    return (-10 * error.log10()).mean().item()


def held_out_clips(count: int, frames: int = 17) -> torch.Tensor:
    """[count, 3, F, H, W] in -1..1, always the same ones, of scenes that no training clip shows."""
    rng = random.Random(999)
    clips = [world.render(world.random_scene(rng, 17, held_out=True), frames) for _ in range(count)]
    return torch.stack(clips).transpose(1, 2) * 2 - 1


def phase_at(progress: float) -> tuple[int, int, float]:
    """Progress 0..1 -> pixel frames, batch, learning rate (cosine within a phase)"""
    start = 0.0
    for share, frames, batch, first, last in PHASES:
        if progress < start + share or frames == PHASES[-1][1]:
            inside = min(1.0, (progress - start) / share)
            return frames, batch, last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * inside))
        start += share
    raise AssertionError("the last phase ends the loop")


class Learner:
    """The VAE with its optimisers. decoder_alone: the encoder stays as it is, and so do the latents.

    step: steps made. seconds: of training.
    """

    def __init__(self, dim: int, decoder_alone: bool, device: torch.device | str = "cpu") -> None:
        """Draw new weights from torch's generator."""
        self.vae, self.decoder_alone = vae_net.VAE(dim).to(device), decoder_alone
        if decoder_alone:
            self.vae.encoder.requires_grad_(False)
            self.vae.conv1.requires_grad_(False)
        trained = {n: p for n, p in self.vae.named_parameters() if p.requires_grad}
        convs = [
            p for n, p in trained.items() if p.ndim >= 4 and p.numel() > 500 and n not in EDGES and "gamma" not in n
        ]
        inner = set(map(id, convs))
        others = [p for p in trained.values() if id(p) not in inner]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=1e-4)
        self.muon = Muon(convs)
        self.step, self.seconds = 0, 0.0

    def update(self, video: torch.Tensor, rate: float, weight: torch.Tensor | None = None) -> tuple[float, float]:
        """One step of both optimisers on clips [B, 3, F, H, W] in -1..1 at a learning rate -> (loss, KL divergence).

        weight: [B, 1, F, H, W], how much each pixel counts; None: all the same.
        """
        mean, log_variance = (m.float() for m in self.vae.moments(video))
        log_variance = log_variance.clamp(-12, 4)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = self.vae.decode(latent.bfloat16()).float() - video.float()
        apart = error.abs() + 2 * error.pow(2)
        loss = (apart if weight is None else apart * weight).mean() + KL_WEIGHT * kl
        for p in self.vae.parameters():
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.muon.step(rate * MUON_RATIO)
        self.step += 1
        return loss.item(), kl.item()

    def save(self, checkpoint: Path) -> None:
        """Write all that a resumed run needs; an older file stays until the new one is complete."""
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "vae": self.vae.state_dict(),
                "adam": self.adam.state_dict(),
                "muon": self.muon.state,
                "step": self.step,
                "seconds": self.seconds,
            },
            unfinished,
        )
        unfinished.replace(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Go on from what `save` wrote; a decoder trained alone has moments of its own, which begin anew."""
        saved = torch.load(checkpoint, map_location=next(self.vae.parameters()).device)
        self.vae.load_state_dict(saved["vae"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        if not self.decoder_alone:
            self.adam.load_state_dict(saved["adam"])
            self.muon.state = saved["muon"]


def finish_at(seconds: float, total: float) -> tuple[int, int, float]:
    """Pixel frames, batch and learning rate of the decoder alone: a cosine down over `total` seconds."""
    decay = 0.5 + 0.5 * math.cos(math.pi * seconds / total)
    return 17, 4, FINISH_RATE * max(0.02, decay) * min(1.0, seconds / 30)


def train(options: argparse.Namespace) -> None:
    """Train until the time is over, with a checkpoint and a line of JSON every two minutes."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    learner = Learner(options.dim, decoder_alone=options.finish_decoder > 0)
    vae_net.compile_norms()
    checkpoint = options.out / "vae.pt"
    if checkpoint.exists():
        learner.load(checkpoint)
        rng.seed(options.seed + learner.step)
    start, end = 0.0, options.minutes * 60
    if learner.decoder_alone:
        start = learner.seconds = max(learner.seconds, end)
        end = start + options.finish_decoder * 60
    test = held_out_clips(24)
    last = reported_at = time.time()
    while learner.seconds < end:
        frames, batch, rate = (
            finish_at(learner.seconds - start, end - start)
            if learner.decoder_alone
            else phase_at(learner.seconds / end)
        )
        rate *= min(1.0, (learner.step + 1) / 30)
        video = clip_batch(rng, frames, batch).bfloat16().contiguous(memory_format=torch.channels_last_3d)
        loss, kl = learner.update(video, rate)
        now = time.time()
        learner.seconds, last = learner.seconds + min(now - last, LONGEST_STEP_SECONDS), now
        if now - reported_at > REPORT_SECONDS or learner.seconds >= end:
            quality = psnr(learner.vae, test if frames > 1 else test[:, :, :1])
            line = {
                "step": learner.step,
                "seconds": learner.seconds,
                "frames": frames,
                "loss": loss,
                "kl": kl,
                "psnr": quality,
            }
            print(json.dumps({name: round(value, 4) for name, value in line.items()}), flush=True)
            learner.save(checkpoint)
            last = reported_at = time.time()
    quality = psnr(learner.vae, held_out_clips(96)), psnr(learner.vae, held_out_clips(96, 1))
    print(f"held-out PSNR {quality[0]:.2f} dB, single frames {quality[1]:.2f} dB")


def main() -> None:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--finish-decoder",
        type=float,
        default=0,
        metavar="MINUTES",
        help="train the decoder alone on a finished checkpoint",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options)


if __name__ == "__main__":
    main()
