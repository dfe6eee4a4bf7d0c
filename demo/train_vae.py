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
    rng = random.Random(999)
    return (
        torch.stack([world.render(world.random_scene(rng, 17, held_out=True), frames) for _ in range(count)]).transpose(
            1, 2
        )
        * 2
        - 1
    )


def phase_at(progress: float) -> tuple[int, int, float]:
    """progress 0..1 -> pixel frames, batch, learning rate (cosine within a phase)"""
    start = 0.0
    for share, frames, batch, first, last in PHASES:
        if progress < start + share or frames == PHASES[-1][1]:
            inside = min(1.0, (progress - start) / share)
            return frames, batch, last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * inside))
        start += share
    raise AssertionError("the last phase ends the loop")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("out", type=Path)
    args.add_argument("--minutes", type=float, default=14)
    args.add_argument("--dim", type=int, default=8)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument(
        "--finish-decoder",
        type=float,
        default=0,
        metavar="MINUTES",
        help="train the decoder alone on a finished checkpoint",
    )
    opts = args.parse_args()
    opts.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(opts.seed)
    rng = random.Random(opts.seed)
    vae = vae_net.VAE(opts.dim)
    finishing = opts.finish_decoder > 0
    if finishing:
        vae.encoder.requires_grad_(False)
        vae.conv1.requires_grad_(False)
    edge = ("encoder.conv1.weight", "decoder.head.2.weight", "conv1.weight", "conv2.weight")
    trained = {n: p for n, p in vae.named_parameters() if p.requires_grad}
    convs = [p for n, p in trained.items() if p.ndim >= 4 and p.numel() > 500 and n not in edge and "gamma" not in n]
    inner = set(map(id, convs))
    adam = torch.optim.AdamW([p for p in trained.values() if id(p) not in inner], betas=(0.9, 0.98), weight_decay=1e-4)
    muon = Muon(convs)
    vae_net.compile_norms()
    checkpoint, step, spent = opts.out / "vae.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        vae.load_state_dict(saved["vae"])
        step, spent = saved["step"], saved["seconds"]
        rng.seed(opts.seed + step)
        if not finishing:  # which trains other parameters, with moments of their own
            adam.load_state_dict(saved["adam"])
            muon.state = saved["muon"]
    end = opts.minutes * 60
    if finishing:
        start, end = max(spent, end), max(spent, end) + opts.finish_decoder * 60
        spent = start
    test, log = held_out_clips(24), []
    last = report = time.time()
    while spent < end:
        if finishing:
            decay = 0.5 + 0.5 * math.cos(math.pi * (spent - start) / (end - start))
            frames, batch, rate = 17, 4, FINISH_RATE * max(0.02, decay) * min(1.0, (spent - start) / 30)
        else:
            frames, batch, rate = phase_at(spent / end)
        rate *= min(1.0, (step + 1) / 30)
        video = clip_batch(rng, frames, batch).bfloat16().contiguous(memory_format=torch.channels_last_3d)
        mean, log_variance = (m.float() for m in vae.moments(video))
        log_variance = log_variance.clamp(-12, 4)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = vae.decode(latent.bfloat16()).float() - video.float()
        loss = error.abs().mean() + 2 * error.pow(2).mean() + KL_WEIGHT * kl
        for p in vae.parameters():
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        muon.step(rate * MUON_RATIO)
        step += 1
        now = time.time()
        spent, last = spent + min(now - last, 5.0), now  # compiling is not training
        if now - report > 120 or spent >= end:
            quality = psnr(vae, test if frames > 1 else test[:, :, :1])
            log.append(dict(step=step, seconds=spent, frames=frames, loss=loss.item(), kl=kl.item(), psnr=quality))
            print(json.dumps({k: round(v, 4) for k, v in log[-1].items()}), flush=True)
            torch.save(
                dict(vae=vae.state_dict(), adam=adam.state_dict(), muon=muon.state, step=step, seconds=spent),
                checkpoint,
            )
            last = report = time.time()
    print(
        f"held-out PSNR {psnr(vae, held_out_clips(96)):.2f} dB, single frames {psnr(vae, held_out_clips(96, 1)):.2f} dB"
    )


if __name__ == "__main__":
    main()
