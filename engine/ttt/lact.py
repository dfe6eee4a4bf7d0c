"""Read a video with LaCT in a TTT layer's place: fast weights that learn from some frames at once, in one large step.

Source: Test-Time Training Done Right (arXiv 2505.23884, sections 3 and 4.3) and its public code, as it is configured
for video on Wan 2.1: a chunk of 3 latent frames, a hidden layer twice as wide as a head, three learning rates for each
token and head by softplus, an RMS norm over each head before the output projection. The step is in kernels/lact.py: a
few large products, so it is fast on any card without a kernel, forwards and backwards.

A chunk is at most `chunk` latent frames of one segment, and the segment's text before them; a segment is divided
evenly. Each token is answered by what its whole chunk and everything before it has taught, as in the other kinds, so
that the two readings of a block know all of the video. (The published video model is autoregressive: there noisy frames
ask weights that learned from clean ones alone.) Left out: the published scale of the output, which is the gates' part
here, and the affine q and k, which the published layer needs because it shares attention's projections.
"""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...kernels.lact import FastWeights, lengths_of, read_chunk
from ..factory_arguments import FactoryArguments
from .layer import TTTConfig, angles_of, check_reference, check_tokens, normed_heads, places_of, take, unit_heads
from .order import Layout, Slab, frame_slabs

# Of the fast weights into a unit. A step has size one whatever the weights have, so at the published length of 1 a
# chunk is forgotten after four more; training can change it.
START_LENGTH = 4.0


class LaCTLayer(nn.Module):
    """Read with Large Chunk Test-Time Training: a SwiGLU network for each head, one step of Muon for each chunk."""

    def __init__(
        self, config: TTTConfig, operations=nn, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.config = config
        self.checkpoint_every = 16  # 0 keeps what each chunk computes for the gradients, else it is recomputed
        at = FactoryArguments(device=device, dtype=dtype)
        C, H, D, M = config.width, config.heads, config.head_width, config.hidden
        self.wq, self.wk, self.wv, self.wo = (operations.Linear(C, C, bias=True, **at) for _ in range(4))
        self.rates = operations.Linear(C, 3 * H, bias=True, **at)
        self.w1, self.w3 = (nn.Parameter(torch.empty(H, D, M, **at)) for _ in range(2))
        self.w2 = nn.Parameter(torch.empty(H, M, D, **at))
        self.head_norm_weight = nn.Parameter(torch.ones(D, **at))
        self.reset()

    def reset(self) -> None:
        """Set start values for training: what leads into a unit has START_LENGTH, on the average; the rest is that of
        `operations`.
        """
        for w in (self.w1, self.w2, self.w3):
            nn.init.normal_(w, std=START_LENGTH * w.shape[-2] ** -0.5)

    def read(
        self,
        x: torch.Tensor,
        layout: Layout,
        backwards: bool = False,
        slab_tokens: int | None = None,
        backend: str | None = None,
    ) -> Iterator[tuple[Slab, torch.Tensor]]:
        """Read as TTTLayer.read does, but a slab is a chunk, whatever slab_tokens is. Of backends there is the
        reference alone. Besides a slab, the fast weights are held, and their lengths.

        Raises ValueError where x does not have the layout's tokens, or another backend is asked for.
        """
        check_tokens(x, layout, self.config)
        check_reference(self.config, backend)
        precise = torch.promote_types(x.dtype, torch.float32)
        start = (w.to(x.device, precise).expand(x.shape[0], -1, -1, -1) for w in (self.w1, self.w2, self.w3))
        fast = FastWeights(*start)
        lengths, step = lengths_of(fast), read_chunk
        if torch.is_grad_enabled() and self.checkpoint_every:
            step = partial(checkpoint, read_chunk, use_reentrant=False, preserve_rng_state=False)
        for slab in frame_slabs(layout, backwards, self.config.chunk):
            tokens = take(x, slab)
            angles = angles_of(*places_of(slab, x.device), layout, self.config.head_width)
            q, k, v = unit_heads(tokens, angles, self.config, (self.wq, self.wk, self.wv))
            out, fast = step(q, k, v, self._learning_rates(tokens), fast, lengths)
            del q, k, v
            out = normed_heads(out, self.head_norm_weight, self.config.norm_eps)
            yield slab, self.wo(out.to(x.dtype).flatten(2))

    def _learning_rates(self, x: torch.Tensor) -> torch.Tensor:
        """Return learning rates [B, S, H, 3], about base_rate in a new layer, for x [B, S, C]."""
        rate = self.config.base_rate
        logit = rate + math.log(-math.expm1(-rate))  # softplus of this is base_rate
        said = self.rates(x)
        return F.softplus(said.to(torch.promote_types(x.dtype, torch.float32)) + logit).unflatten(-1, (-1, 3))
