"""Streamed frames against core's decode at true width: do they differ, and what does either hold in memory?

    python dev.py bench decode [NAME ...] [--slow] [--narrow] [--seeds 1] [--offset 0] [--json FILE]

Core's own VAE classes as wide as their files are, with random weights, on latents of 2x2 (HunyuanVideo, CogVideoX and
TAEHV 4x4) cells: noise of its own in every frame, or with --slow one that changes within about eight frames, as a video
does. `streamed` is Longreel Decode to Video's way, `at once` core's VAE Decode, `tiled` core's VAE Decode (Tiled) with
its sizes in time and the whole picture as a tile. Differences are means over all values, in steps of 255; weights that
were never trained say how far a value reaches, not how a video looks. Peaks are bytes of tensors beside weights and
latent, at the first length and at the second.
"""

import gc
from collections import deque
from collections.abc import Iterator

import torch

from tests.bench_support import measuring, parser, start_comfyui, table

# Latent frames of the first and the second length, and cells of a side.
LENGTHS = {
    "Wan 2.1": (10, 20, 2),
    "Wan 2.2": (10, 20, 2),
    "HunyuanVideo": (36, 50, 4),
    "HunyuanVideo 1.5": (36, 50, 2),
    "LTXV 0.9.0": (32, 64, 2),
    "LTXV 0.9.5": (32, 64, 2),
    "CogVideoX": (9, 17, 4),
    "TAEHV": (10, 20, 4),
}
HEADS = (
    "VAE",
    "latent frames",
    "streamed, peak MiB",
    "at once, peak MiB",
    "spread of the pictures",
    "streamed - at once",
    "at most",
    "tiled - at once",
)


def samples(name: str, frames: int, size: int, seed: int, slow: bool) -> torch.Tensor:
    """[1, C, F, size, size], mean 0 and variance 1."""
    from tests.tiny_vaes import latent

    if not slow:
        return latent(name, frames, size, seed + 1)
    noise = latent(name, frames + 24, size, seed + 1)
    shares = torch.exp(-0.5 * (torch.arange(-12, 13) / 4) ** 2)
    return sum(share * noise[:, :, k : k + frames] for k, share in enumerate(shares / shares.norm()))


def peak_of(vae, latent: torch.Tensor, decode) -> tuple[torch.Tensor, float]:
    """Return the frames [f, H, W, 3] and the peak in MiB."""
    from tests.live_bytes import LiveBytes

    gc.collect()
    torch.manual_seed(1)
    with LiveBytes(latent, *vae.first_stage_model.state_dict().values()) as memory:
        frames = decode()
    return frames, memory.peak / 2**20


def row(name: str, seeds: range, slow: bool, narrow: bool) -> Iterator[list[str]]:
    from longreel.hosts.video.decode import decode_frames
    from tests.tiny_vaes import build

    vae = build(name, narrow)
    short, long, size = LENGTHS[name]
    for seed in seeds:
        peaks, held = [], []
        for frames in (short, long):
            latent = samples(name, frames, size, seed, slow)
            held.append(peak_of(vae, latent, lambda latent=latent: deque(decode_frames(vae, latent), 0))[1])
            expected, peak = peak_of(vae, latent, lambda latent=latent: vae.decode(latent)[0])
            peaks.append(peak)
        torch.manual_seed(1)
        got = torch.cat([pixels.clone() for pixels in decode_frames(vae, latent)])
        tile = {"tile_x": 4 * size, "tile_y": 4 * size, "overlap": 0}
        stride = vae.temporal_compression_decode()
        torch.manual_seed(1)
        tiled = vae.decode_tiled(latent, **tile, tile_t=64 // stride, overlap_t=max(1, 8 // stride))[0]
        difference = (got - expected).abs()
        yield [
            name,
            f"{short}, {long}",
            ", ".join(f"{x:.1f}" for x in held),
            ", ".join(f"{x:.1f}" for x in peaks),
            f"{255 * expected.std():.1f}",
            f"{255 * difference.mean():.2g}",
            f"{255 * difference.max():.2g}",
            f"{255 * (tiled - expected).abs().mean():.2g}",
        ]


def main() -> None:
    arguments = parser(__doc__ or "", seeds=1)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="VAEs, as the table names them; all without")
    arguments.add_argument("--slow", action="store_true", help="latents that change slowly")
    arguments.add_argument("--narrow", action="store_true", help="the widths of the tests, in seconds")
    given = arguments.parse_args()
    start_comfyui()
    with measuring(given) as figures:
        rows = []
        for name in given.names or LENGTHS:
            for cells in row(name, range(given.offset, given.offset + given.seeds), given.slow, given.narrow):
                rows.append(cells)
                print(" | ".join(cells), flush=True)
        print("\n" + table(HEADS, rows))
        figures["rows"] = [dict(zip(HEADS, cells, strict=True)) for cells in rows]


if __name__ == "__main__":
    main()
