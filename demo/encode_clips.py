"""Finishes the VAE and encodes the training clips.

    python -m longreel.demo.encode_clips VAE_CHECKPOINT OUT_LATENTS [--clips 9000] [--seed 42]
    python -m longreel.demo.encode_clips bundled OUT_LATENTS [--clips 9000] [--seed 42]

The second form encodes with the VAE in demo/weights, which stays as it is.
The per-channel standardisation, and the fixed mean and deviation that ComfyUI's Wan 2.1 latent format applies, are
folded into the VAE's 1x1x1 convolutions: after that ComfyUI's `process_latent_in` gives latents of unit scale. Writes
demo/weights/shapeworld_vae.safetensors and a .pt file with latents and scenes. Held-out combinations are not encoded.
"""

import argparse
import random
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import train_vae, twin, vae_net, world
from .latents import WAN_MEAN, WAN_STD, encode


@torch.no_grad()
def fold_statistics(vae: vae_net.VAE, video: torch.Tensor) -> torch.Tensor:
    """Rescales the latent so that (latent - WAN_MEAN) / WAN_STD has unit scale on `video`; returns the old scale
    [C]."""
    moments = [vae.moments(part) for part in video.split(8)]
    mean = torch.cat([m[0] for m in moments])
    posterior = torch.cat([m[1] for m in moments]).exp().mean((0, 2, 3, 4))
    centre, spread = mean.mean((0, 2, 3, 4)), mean.std((0, 2, 3, 4))
    scale = (spread**2 + posterior).sqrt()  # a channel that says nothing is not blown up
    gain, shift = WAN_STD / scale, WAN_MEAN - centre * WAN_STD / scale
    channels = len(gain)
    vae.conv1.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    vae.conv1.bias[:channels] = vae.conv1.bias[:channels] * gain + shift
    vae.conv2.bias += vae.conv2.weight[:, :, 0, 0, 0] @ (-shift / gain)
    vae.conv2.weight /= gain.view(1, -1, 1, 1, 1)
    return spread / scale


@torch.no_grad()
def finish(vae: vae_net.VAE) -> None:
    """Folds the statistics in and writes the VAE that ComfyUI loads."""
    rng = random.Random(42)  # the statistics do not depend on --seed
    sample = torch.stack([world.render(world.random_scene(rng), 17) for _ in range(96)]).transpose(1, 2) * 2 - 1
    print(
        "share of each channel's scale that carries content:",
        [round(v, 2) for v in fold_statistics(vae, sample).tolist()],
    )
    print(f"held-out PSNR after folding {train_vae.psnr(vae, train_vae.held_out_clips(96)):.2f} dB")
    twin.WEIGHTS.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in vae.state_dict().items()}, twin.WEIGHTS / twin.VAE)


@torch.no_grad()
def main() -> None:
    """Read the command line, and do what the module says."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("checkpoint", type=Path, help='of train_vae, or "bundled"')
    args.add_argument("out", type=Path)
    args.add_argument("--clips", type=int, default=9000)
    args.add_argument("--dim", type=int, default=8)
    args.add_argument("--seed", type=int, default=42, help="another seed, other clips: run two at once, one per core")
    opts = args.parse_args()
    torch.set_num_threads(1)  # the small operations of rendering lose more to waiting than they gain
    if str(opts.checkpoint) == "bundled":
        vae = twin.vae()
    else:
        vae = vae_net.VAE(opts.dim).eval()
        vae.load_state_dict(torch.load(opts.checkpoint)["vae"])
        finish(vae)

    vae_net.compile_norms()
    rng = random.Random(opts.seed)
    started, latents, scenes, valid = time.time(), [], [], []
    while len(scenes) < opts.clips:
        frames = [
            17 if rng.random() < 0.4 else world.CLIP_FRAMES for _ in range(16)
        ]  # shorter clips start in more places
        batch = [world.random_scene(rng, f) for f in frames]
        video = torch.stack([world.render(s, world.CLIP_FRAMES) for s in batch]).transpose(1, 2) * 2 - 1
        latents.append(encode(vae, video).half())
        scenes += batch
        valid += [1 + (f - 1) // 4 for f in frames]
        if len(scenes) % 2000 < 16:
            print(len(scenes), f"{(time.time() - started) / len(scenes) * 1e3:.1f} ms per clip", flush=True)
    torch.save({"latents": torch.cat(latents), "scenes": scenes, "latent_frames": torch.tensor(valid)}, opts.out)
    print("latent deviation", torch.cat(latents[:40]).float().std((0, 2, 3, 4)))


if __name__ == "__main__":
    main()
