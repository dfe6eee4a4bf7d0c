"""Train low-rank adapters (LoRA, arXiv 2106.09685) on the linear layers of any network.

A layer y = W x + b becomes y = W x + b + (alpha / rank) up(down(x)), with `down` [rank, in] drawn at random and `up`
[out, rank] zero, so that an untrained adapter changes nothing. They hang on the layers as forward hooks: the network,
its weights and the way it casts them stay as they are. How a file names them is in engine/lora/keys.py; which network
it is, is not known here.
"""

import fnmatch
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

MOST_RANK = 256


class LowRank(nn.Module):
    """This is what is added to one layer: down [rank, in], up [out, rank], float32; computed in the dtype of the
    layer's output.

    rank: 1 to 256. alpha: above 0; the adapter counts alpha / rank.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        if not 1 <= rank <= MOST_RANK:
            raise ValueError(f"rank is {rank}, not 1 to {MOST_RANK}; use 256 as published, 16 for a small file")
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha:g}, not above 0; use the rank, {rank}")
        self.alpha, self.scale = alpha, alpha / rank
        spread = inputs**-0.5
        self.down = nn.Parameter((torch.rand(rank, inputs, generator=generator) * 2 - 1) * spread)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return what is added to the layer's own output `like` [..., out], for its input x [..., in]."""
        down, up = self.down.to(like.dtype), self.up.to(like.dtype)
        return F.linear(F.linear(x.to(like.dtype), down), up) * self.scale


def layers_of(network: nn.Module, targets: Iterable[str]) -> dict[str, nn.Module]:
    """Return the linear layers of a network whose names fit one of the patterns, in the network's order.

    targets: as in file names, "*" for any text: "blocks.*.self_attn.*", "*ffn*".
    Raises ValueError, naming the pattern and some of the names there are, for one that fits none.
    """
    linear = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or _is_linear_of_core(module)
    }
    found: set[str] = set()
    for pattern in targets:
        fitting = set(fnmatch.filter(linear, pattern))
        if not fitting:
            some = ", ".join(list(linear)[:: max(1, len(linear) // 4)][:4])
            raise ValueError(
                f"targets: {pattern!r} fits none of the {len(linear)} linear layers of this network; they have "
                f"names like {some}"
            )
        found |= fitting
    if not found:
        raise ValueError(f'targets names none of the {len(linear)} linear layers; use "blocks.*" for all blocks')
    return {name: module for name, module in linear.items() if name in found}


def attach(layers: Mapping[str, nn.Module], rank: int, alpha: float, seed: int = 0) -> dict[str, LowRank]:
    """Put an adapter on each layer, which lasts as long as the layer. The same seed gives the same adapters."""
    generator = torch.Generator().manual_seed(seed)
    adapters = {}
    for name, layer in layers.items():
        weight: torch.Tensor = layer.weight  # type: ignore[assignment]  # nn.Module knows no names; `layers_of` looked
        outputs, inputs = weight.shape
        adapter = LowRank(inputs, outputs, rank, alpha, generator).to(weight.device)
        layer.register_forward_hook(lambda module, given, output, own=adapter: output + own(given[0], output))
        adapters[name] = adapter
    return adapters


def parameters_of(adapters: Mapping[str, LowRank]) -> dict[str, nn.Parameter]:
    """Return "<layer>.down" and "<layer>.up" of every adapter."""
    return {f"{name}.{part}": getattr(adapter, part) for name, adapter in adapters.items() for part in ("down", "up")}


def weights_of(adapters: Mapping[str, LowRank], prefix: str = "diffusion_model.") -> dict[str, torch.Tensor]:
    """Return the tensors of a file that ComfyUI's own LoRA loaders read: lora_down, lora_up and alpha of every
    layer.
    """
    found = {}
    for name, adapter in adapters.items():
        found[f"{prefix}{name}.lora_down.weight"] = adapter.down.detach().cpu().clone()
        found[f"{prefix}{name}.lora_up.weight"] = adapter.up.detach().cpu().clone()
        found[f"{prefix}{name}.alpha"] = torch.tensor(float(adapter.alpha))
    return found


def _is_linear_of_core(module: nn.Module) -> bool:
    """Tell whether this is a host's quantised layer, which is no nn.Linear and has a weight [out, in] all the same."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Linear" and isinstance(weight, torch.Tensor) and weight.ndim == 2
