"""Put in the place of TTT layers what they are compared with: the gated delta rule, and attention to neighbouring
segments.

One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 4) puts other ways of joining segments
where its TTT layers stand, between the same gates and read in the same two directions (engine/ttt/block.py). Both have
the TTT layer's projections, its queries and keys of length one at its rotary positions, its last norm and projection,
and about as many parameters as TTT-MLP. Local attention alone is a model without layers, or with gates that are shut.

They are here for the comparison: plain torch, no kernels, and no weights but the pack's own exist.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...kernels.gated_delta import scan
from ..factory_arguments import FactoryArguments
from .layer import (
    POST_NORM_EPS,
    TTTConfig,
    angles_of,
    check_reference,
    check_tokens,
    normed_heads,
    places_of,
    take,
    unit_heads,
)
from .order import Layout, Slab, segment_slabs, slabs

STEP_LOWEST, STEP_HIGHEST = 1e-4, 1e-1  # log decay per token at the start: heads that remember 10 to 10,000 tokens


class GatedDeltaLayer(nn.Module):
    """Read with Gated Delta Networks (arXiv 2412.06464): a matrix for each head, from which tokens replace what stands
    under their keys, which forgets at a rate that each token sets, and whose output passes a norm and a gate of its
    own.

    Left out of the published layer: the short convolution before queries, keys and values, whose neighbours in the
    order of the scan are no neighbours in the picture. The published heads start out forgetting within 10 to 1,000
    tokens, less than a segment of a real model.
    """

    def __init__(
        self, config: TTTConfig, operations=nn, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.config = config
        self.checkpoint_every = 16  # as in TTTLayer
        at = FactoryArguments(device=device, dtype=dtype)
        C, H, D = config.width, config.heads, config.head_width
        self.wq, self.wk, self.wv, self.wg, self.wo = (operations.Linear(C, C, bias=True, **at) for _ in range(5))
        self.decay, self.strength = (operations.Linear(C, H, bias=True, **at) for _ in range(2))
        self.head_norm_weight = nn.Parameter(torch.ones(D, **at))
        self.post_norm = operations.LayerNorm(C, eps=POST_NORM_EPS, **at)
        self.reset()

    def reset(self) -> None:
        """Set start values for training: heads remember differently long; the rest is that of `operations`."""
        with torch.no_grad():
            share = torch.rand_like(self.decay.bias)
            step = torch.exp(math.log(STEP_LOWEST) + share * math.log(STEP_HIGHEST / STEP_LOWEST))
            self.decay.bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus of this is `step`
            self.decay.weight.mul_(0.1)  # so that the bias says it

    def read(
        self,
        x: torch.Tensor,
        layout: Layout,
        backwards: bool = False,
        slab_tokens: int | None = None,
        backend: str | None = None,
    ) -> Iterator[tuple[Slab, torch.Tensor]]:
        """Read as TTTLayer.read does; of backends there is the reference alone.

        Raises ValueError as it does, and where another backend is asked for.
        """
        check_tokens(x, layout, self.config)
        check_reference(self.config, backend)
        if slab_tokens is not None and (slab_tokens < 1 or slab_tokens % self.config.chunk):
            raise ValueError(
                f"a slab of {slab_tokens} tokens cuts a chunk of {self.config.chunk}; use a multiple of it"
            )
        H, D = self.config.heads, self.config.head_width
        state = x.new_zeros(x.shape[0], H, D, D, dtype=torch.float32)
        for slab in slabs(layout, backwards, slab_tokens):
            y, state = self._read_slab(take(x, slab), slab, layout, state)
            yield slab, y

    def _read_slab(
        self, x: torch.Tensor, slab: Slab, layout: Layout, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a slab: x [B, S, C] in the order of the slab's ranges, state [B, H, D, D] -> output like x, state."""
        config = self.config
        places, entries = places_of(slab, x.device)
        angles = angles_of(places, entries, layout, config.head_width)
        q, k, v = unit_heads(x, angles, config, (self.wq, self.wk, self.wv))
        log_decay = -F.softplus(self.decay(x).float())  # [B, S, H]
        strength = config.base_rate * self.strength(x).float().sigmoid()
        out, state = scan(q, k, v, log_decay, strength, state, config.chunk, places, self.checkpoint_every)
        out = normed_heads(out, self.head_norm_weight, config.norm_eps).to(x.dtype).flatten(2) * F.silu(self.wg(x))
        return self.wo(self.post_norm(out)), state


class SlidingWindowLayer(nn.Module):
    """Let each segment attend to itself and the segment read before it: forwards the one before, backwards the one
    behind, so that both readings together see both neighbours and no segment more.

    A shared frame counts with the earlier segment in both directions; counted as TTT counts it, a frame would carry
    its segment's neighbour one segment further.
    """

    def __init__(
        self, config: TTTConfig, operations=nn, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.config = config
        self.checkpoint_every = 16  # 0 keeps each segment's attention for the gradients, else it is recomputed
        at = FactoryArguments(device=device, dtype=dtype)
        C = config.width
        self.wq, self.wk, self.wv, self.wo = (operations.Linear(C, C, bias=True, **at) for _ in range(4))
        self.logit_scale = nn.Parameter(torch.empty(config.heads, **at))
        self.post_norm = operations.LayerNorm(C, eps=POST_NORM_EPS, **at)
        self.reset()

    def reset(self) -> None:
        """Set start values for training; the rest is that of `operations`."""
        nn.init.constant_(self.logit_scale, math.sqrt(self.config.head_width))

    def read(
        self,
        x: torch.Tensor,
        layout: Layout,
        backwards: bool = False,
        slab_tokens: int | None = None,
        backend: str | None = None,
    ) -> Iterator[tuple[Slab, torch.Tensor]]:
        """Read as TTTLayer.read does, but a slab is a segment, whatever slab_tokens is: that is what it is asked for.
        Of backends there is the reference alone. Besides a segment, the keys and values of the one before are held.

        Raises ValueError where x does not have the layout's tokens, or another backend is asked for.
        """
        check_tokens(x, layout, self.config)
        check_reference(self.config, backend)
        before: list[torch.Tensor] = []  # keys and values [B, S, H, D] of the segment that was read last
        order = segment_slabs(layout)
        for slab in reversed(order) if backwards else order:
            q, k, v = self._project(take(x, slab), slab, layout)
            seen = [torch.cat(pair, 1) for pair in zip(before, (k, v), strict=True)] if before else [k, v]
            if torch.is_grad_enabled() and self.checkpoint_every:
                out = checkpoint(_attend, q, *seen, use_reentrant=False, preserve_rng_state=False)
            else:
                out = _attend(q, *seen)
            before = [k, v]
            yield slab, self.wo(self.post_norm(out.flatten(2)))

    def _project(self, x: torch.Tensor, slab: Slab, layout: Layout) -> tuple[torch.Tensor, ...]:
        """Project x [B, S, C] in the order of the slab's ranges -> q, scaled, and k and v [B, S, H, D]."""
        angles = angles_of(*places_of(slab, x.device), layout, self.config.head_width)
        q, k, v = unit_heads(x, angles, self.config, (self.wq, self.wk, self.wv))
        return q * self.logit_scale.to(x)[:, None], k, v


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return attention like q, for q, scaled, [B, S, H, D] and k, v [B, S', H, D]."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # [B, H, S, D]
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
