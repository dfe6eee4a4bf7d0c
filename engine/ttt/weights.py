"""Read TTT weights as files hold them: names, and what shapes say.

The pack's names are those of engine/ttt/block.py. The public code's (test-time-training/ttt-video-dit, a block's
`seq_modeling_block.*`) differ only in the wrappers of the table below. What file a tensor comes from, and which block
of which model it belongs to, is not known here.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch

from .layer import AS_TRAINED, LACT, LINEAR, MLP, TTTConfig

Value = TypeVar("Value")  # of a name: a tensor, or None where the names alone are asked about
PUBLISHED = {  # start of a published name: the pack's
    "ssm.ttt.": "ttt.",
    "forward_ssm_gating_text.gating_alpha": "forward_text",
    "forward_ssm_gating_video.gating_alpha": "forward_video",
    "backward_ssm_gating_text.gating_alpha": "backward_text",
    "backward_ssm_gating_video.gating_alpha": "backward_video",
}
# lact: of the video model of arXiv 2505.23884, in latent frames; its heads of 768 channels divide few widths.
PUBLISHED_CHUNK = {LINEAR: 16, MLP: 64, LACT: 3}
PUBLISHED_BASE_RATE = {LINEAR: 1.0, MLP: 0.1, LACT: 0.001}
HEAD_WIDTH = {LINEAR: 64, MLP: 64, LACT: 512}


def from_published(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Return a block's TTT weights under the pack's names; weights that are not TTT's are left out."""
    return {
        own + name.removeprefix(start): value
        for name, value in weights.items()
        for start, own in PUBLISHED.items()
        if name.startswith(start)
    }


def to_published(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a TTTBlock's state dict under the names of the public code."""
    return {
        start + name.removeprefix(own): value
        for name, value in weights.items()
        for start, own in PUBLISHED.items()
        if name.startswith(own)
    }


def config_of(
    weights: Mapping[str, torch.Tensor],
    chunk: int | None = None,
    base_rate: float | None = None,
    norm_eps: float = 1e-6,
    rates: str = AS_TRAINED,
) -> TTTConfig:
    """Return what a block's weights (the pack's names) are, from their shapes. Shapes do not tell chunk and base_rate:
    where a file does not either (None), they are the published ones of its kind.

    Raises ValueError where a weight that tells it is missing, or has no shape of a TTT layer.
    """
    kind = MLP if "ttt.W2" in weights else LINEAR
    for name in ("ttt.W1", "ttt.wq.weight"):
        if name not in weights:
            raise ValueError(
                f"none of the {len(weights)} weights is {name}; this is no TTT block of Longreel or ttt-video"
            )
    W1, wq = weights["ttt.W1"], weights["ttt.wq.weight"]
    if W1.dim() != 3 or wq.dim() != 2 or W1.shape[0] * W1.shape[1] != wq.shape[1]:
        raise ValueError(
            f"ttt.W1 has shape {list(W1.shape)} and ttt.wq.weight {list(wq.shape)}; heads times head "
            f"width of W1 must be the width of wq. The file is damaged, or of another kind of layer"
        )
    return TTTConfig(
        kind,
        width=wq.shape[1],
        heads=W1.shape[0],
        chunk=chunk or PUBLISHED_CHUNK[kind],
        base_rate=PUBLISHED_BASE_RATE[kind] if base_rate is None else base_rate,
        norm_eps=norm_eps,
        rates=rates,
    )


def check_weights(block: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError unless `weights` are exactly what the block holds: the first that is missing, unknown or of
    another shape is named."""
    wanted = block.state_dict()
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} TTT weights are missing, first {missing[0]}; the file is "
            f"not whole: convert or save it again"
        )
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(weights)} weights are not this TTT block's, first {unknown[0]}; the "
            f"file holds another kind of layer"
        )
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{name} has shape {list(weights[name].shape)}, the block {list(value.shape)}; the file "
                f"belongs to another model"
            )
