"""The TTT layer is a small network inside each head that learns the video while reading it, and is read in turn.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3) and its public code. Around
the scan (kernels/) stand: projections to q, k, v; q and k of length one; rotary positions on the video; the target,
v - k brought to a learned mean and spread; a learning rate for each token and head; at the end a norm and a projection.
The learned start of the small network is a parameter; what it learns lives as long as one reading.

A video is read in slabs of any multiple of the chunk, and the small network is handed from slab to slab, so memory does
not grow with the video and the numbers do not depend on the slabs. Gates, attention and the model around are not known
here; nor are files (engine/ttt/weights.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ...kernels import State, scan, tail
from ..attention.rotary import grid_angles
from ..factory_arguments import FactoryArguments
from ..to_device import sent
from .order import Layout, Slab, chunks_of_last_tokens, pass_runs, slabs

LINEAR, MLP = "linear", "mlp"
GATED_DELTA, SLIDING_WINDOW = "gated_delta", "sliding_window"  # in a TTT layer's place, see engine/ttt/baselines.py
LACT = "lact"  # see engine/ttt/lact.py
KINDS = (LINEAR, MLP, GATED_DELTA, SLIDING_WINDOW, LACT)
AS_TRAINED, OWN = "as trained with kernels", "own"  # whose learning rates a chunk reads

EXPANSION = {MLP: 4, LACT: 2}  # hidden width of the small network, in head widths
POST_NORM_EPS = 1e-6


# Published rates are 0.1 and 1, and the papers' code is compared at up to 30 on networks of a few channels; keys have
# length 1, and a step of a thousand times the way to the target leads nowhere. Below 1e-12 an epsilon is lost beside a
# variance in float32; one above 0.01, where unit inputs have variance 1 / head width, flattens what the norm is for.
BASE_RATES = (0.0, 1000.0)
NORM_EPSILONS = (1e-12, 1e-2)


@dataclass(frozen=True)
class TTTConfig:
    """This is what a layer's weights were trained as; a layer with other numbers computes something else.

    width: channels of the model, heads * head width; head width a multiple of 16.
    chunk: tokens that the small network learns from at once: 64 (MLP) or 16 (linear) as published.
    base_rate: upper end of a token's learning rate times head width: 0.1 (MLP) or 1.0 (linear) as published.
    norm_eps: of the small network's LayerNorm: 1e-6 in the kernels that trained, 1e-8 in the public PyTorch code.
    rates: OWN, every token learns at its own rate; AS_TRAINED, as the public training code does it where texts or
    segments are no multiples of the chunk (docs/ttt.md, Learning rates out of step): a chunk
    then learns at the rates of that chunk, in the order before text and video were interleaved, which holds its last
    token. Equal where they are multiples.

    gated_delta: base_rate is the upper end of how much of what is remembered under a key a token replaces, 1 as
    published; its numbers do not depend on the chunk, and rates are OWN. sliding_window learns nothing while it reads:
    chunk and base_rate are 1, rates OWN.

    lact: chunk counts latent frames, which it learns from at once, at most those of a segment: 3 as published for
    video. base_rate is a token's learning rate in a new layer, above 0, 0.001 as published; only what tokens of a chunk
    have in proportion to each other matters. norm_eps: of the RMS norm over a head. rates OWN.
    """

    kind: str
    width: int
    heads: int
    chunk: int
    base_rate: float
    norm_eps: float = 1e-6
    rates: str = AS_TRAINED

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of TTT layer {self.kind!r}, none of {len(KINDS)}; use {', '.join(KINDS)}")
        if self.rates not in (AS_TRAINED, OWN):
            raise ValueError(f"unknown learning rates {self.rates!r}; use {AS_TRAINED!r} or {OWN!r}")
        if self.kind not in (LINEAR, MLP) and self.rates != OWN:
            raise ValueError(f"{self.kind} reads its own learning rates, not {self.rates!r}; use {OWN!r}")
        if self.kind == SLIDING_WINDOW and (self.chunk, self.base_rate) != (1, 1):
            raise ValueError(
                f"{SLIDING_WINDOW} has chunk {self.chunk} and base_rate {self.base_rate:g} and learns "
                f"nothing while it reads; use 1 and 1"
            )
        if self.kind == LACT and not self.base_rate > 0:
            raise ValueError(f"{LACT} has base_rate {self.base_rate:g} and learns nothing; use 0.001 as published")
        for name, value in (("heads", self.heads), ("chunk", self.chunk)):
            if value < 1:
                raise ValueError(f"a TTT layer with {name} {value} reads nothing; use at least 1")
        for field, number, (least, most) in (
            ("base_rate", self.base_rate, BASE_RATES),
            ("norm_eps", self.norm_eps, NORM_EPSILONS),
        ):
            if not least <= number <= most:
                raise ValueError(
                    f"a TTT layer with {field} {number:g} learns nothing that holds; use {least:g} to {most:g}, as "
                    f"published {'0.1 or 1' if field == 'base_rate' else '1e-06'}"
                )
        if self.width % self.heads or self.head_width % 16:
            raise ValueError(
                f"{self.width} channels in {self.heads} heads are {self.width / self.heads:g} each; a "
                f"head's width must be a multiple of 16"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Return the width of the small network's hidden layer, or of a head where it has none."""
        return self.head_width * EXPANSION.get(self.kind, 1)


class TTTLayer(nn.Module):
    """Read a video while learning it. Parameters carry the names of the public code. `operations`: where Linear and
    LayerNorm come from (ComfyUI's cast and offload their weights).
    """

    def __init__(
        self, config: TTTConfig, operations=nn, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.config = config
        self.checkpoint_every = 16  # chunks between two states that are kept for the gradients; see kernels.scan
        at = FactoryArguments(device=device, dtype=dtype)
        C, H, D, M = config.width, config.heads, config.head_width, config.hidden

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, **at))

        self.wq, self.wk, self.wv, self.wo = (operations.Linear(C, C, bias=True, **at) for _ in range(4))
        self.learnable_ttt_lr_weight, self.learnable_ttt_lr_bias = parameter(H, 1, C), parameter(H, 1)
        self.ttt_norm_weight, self.ttt_norm_bias = parameter(H, D), parameter(H, D)
        self.post_norm = operations.LayerNorm(C, eps=POST_NORM_EPS, **at)
        self.W1, self.b1 = parameter(H, D, M), parameter(H, 1, M)
        if config.kind == MLP:
            self.W2, self.b2 = parameter(H, M, D), parameter(H, 1, D)
        self.reset()

    def reset(self) -> None:
        """Set start values for training, as published; projections and post norm keep those of `operations`."""
        for name, value in self.named_parameters(recurse=False):
            if name in ("W1", "W2", "learnable_ttt_lr_weight"):
                nn.init.normal_(value, std=0.02)
            else:
                nn.init.constant_(value, 1.0 if name == "ttt_norm_weight" else 0.0)

    def forward(
        self,
        x: torch.Tensor,
        layout: Layout,
        backwards: bool = False,
        slab_tokens: int | None = None,
        backend: str | None = None,
    ) -> torch.Tensor:
        """Return the layer's output [B, L, C] for x [B, L, C], all texts before all frames. See `read`, which needs
        less memory.
        """
        out = torch.empty_like(x)
        for slab, y in self.read(x, layout, backwards, slab_tokens, backend):
            for (start, stop), part in zip(
                slab.ranges, y.split([stop - start for start, stop in slab.ranges], dim=1), strict=True
            ):
                out[:, start:stop] = part
        return out

    def read(
        self,
        x: torch.Tensor,
        layout: Layout,
        backwards: bool = False,
        slab_tokens: int | None = None,
        backend: str | None = None,
    ) -> Iterator[tuple[Slab, torch.Tensor]]:
        """Read x [B, L, C] once, slab by slab, and yield (slab, its output [B, S, C] in the order of its ranges).

        A slab's tokens may be overwritten as soon as it is out. slab_tokens: a multiple of the chunk, or None to read
        all in one. backend: of kernels.scan. Besides the slab, 4 bytes for each token and head are held (rates as
        trained).

        Raises ValueError where x does not have the layout's tokens, or a slab would cut a chunk.
        """
        config = self.config
        check_tokens(x, layout, config)
        if slab_tokens is not None and (slab_tokens < 1 or slab_tokens % config.chunk):
            raise ValueError(f"a slab of {slab_tokens} tokens cuts a chunk of {config.chunk}; use a multiple of it")
        trained = self._rates_as_trained(x, layout, backwards) if config.rates == AS_TRAINED else None
        state = self.start_state(x.shape[0], x.device)
        for slab in slabs(layout, backwards, slab_tokens):
            rates = None if trained is None else trained[:, slab.first : slab.first + len(slab)]
            y, state = self._read_slab(take(x, slab), slab, layout, rates, state, backend)
            yield slab, y

    def _read_slab(
        self, x: torch.Tensor, slab: Slab, layout: Layout, rates: torch.Tensor | None, state: State, backend: str | None
    ) -> tuple[torch.Tensor, State]:
        """Read a slab: x [B, S, C] in the order of the slab's ranges; rates [B, S, H] in the order of the scan, or None
        for the tokens' own -> output like x, state.
        """
        config = self.config
        places, entries = places_of(slab, x.device)
        rates = self.learning_rates(x) if rates is None else torch.zeros_like(rates).index_copy(1, places, rates)
        q, k, v = self._project(x, angles_of(places, entries, layout, config.head_width), backend)
        norm = self.ttt_norm_weight.to(x.device), self.ttt_norm_bias.to(x.device)
        out, state = scan(
            q,
            k,
            v,
            rates / config.chunk,
            *norm,
            state,
            config.chunk,
            places,
            config.norm_eps,
            backend,
            self.checkpoint_every,
            check_index=False,  # it is made of a layout's ints, each token once
        )
        del q, k, v
        return self.wo(self.post_norm(out.flatten(2))), state

    def start_state(self, batch: int, device: torch.device | None = None) -> State:
        """Return the learned start, the same for every video of the batch, in float32."""
        names = ("W1", "b1", "W2", "b2") if self.config.kind == MLP else ("W1", "b1")
        return State(*(getattr(self, name).to(device, torch.float32).expand(batch, -1, -1, -1) for name in names))

    def learning_rates(self, x: torch.Tensor) -> torch.Tensor:
        """Return learning rates [B, S, H] float32, 0 .. base_rate / D, for x [B, S, C]."""
        weight, bias = self.learnable_ttt_lr_weight.to(x), self.learnable_ttt_lr_bias.to(x)
        logits = F.linear(x, weight[:, 0], bias[:, 0])
        return logits.float().sigmoid() * (self.config.base_rate / self.config.head_width)

    def _rates_as_trained(self, x: torch.Tensor, layout: Layout, backwards: bool) -> torch.Tensor:
        """Return rates [B, L, H] in the order of the scan, as the public training code hands them to its kernels; see
        ttt_order.chunks_of_last_tokens.
        """
        chunk, rates = self.config.chunk, self.learning_rates(x)
        parts = [rates[:, run.start : run.stop] for run in pass_runs(layout, backwards)]
        if backwards:
            parts[-1] = parts[-1].flip(1)
        # A last, short chunk of the input has too few rates for a full one of the scan: its last rate goes on.
        parts.append(parts[-1][:, -1:].expand(-1, -layout.tokens % chunk, -1))
        chunks = torch.cat(parts, dim=1).unflatten(1, (-1, chunk))  # [B, chunks, K, H]
        sources = sent(torch.tensor(chunks_of_last_tokens(layout, backwards, chunk)), x, torch.int64)
        return chunks[:, sources].flatten(1, 2)[:, : layout.tokens]

    def _project(
        self, x: torch.Tensor, angles: torch.Tensor, backend: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Project x [B, S, C], angles [S, D / 2] -> q, k and v' = target + k, each [B, S, H, D] in x's dtype."""
        heads = (self.config.heads, self.config.head_width)
        q, k, v = (project(x).unflatten(-1, heads) for project in (self.wq, self.wk, self.wv))
        gamma, beta = self.ttt_norm_weight.to(x.device), self.ttt_norm_bias.to(x.device)
        return tail.finish(q, k, v, angles, gamma, beta, backend)


def check_tokens(x: torch.Tensor, layout: Layout, config: TTTConfig) -> None:
    """Raise ValueError where x [B, L, C] does not have the layout's tokens and the layer's channels."""
    if x.shape[1:] != (layout.tokens, config.width):
        raise ValueError(
            f"x has {x.shape[1]} tokens of {x.shape[2]} channels, but the layout {layout.tokens} and the "
            f"layer {config.width}; plan the layout for this video, or load the layer of this model"
        )


def check_reference(config: TTTConfig, backend: str | None) -> None:
    """Raise ValueError where another backend than the reference is asked for, of a kind that has no other."""
    if backend not in (None, "reference"):
        raise ValueError(
            f"the TTT backend {backend} was asked for, and {config.kind} runs on the reference alone; ask for that"
        )


def unit_and_turned(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Return queries or keys [B, S, H, D] at length one, rotated to their places by angles [S, D / 2], in x's dtype."""
    return tail.unit_and_turned(x, angles.cos(), angles.sin())


def unit_heads(
    x: torch.Tensor, angles: torch.Tensor, config: TTTConfig, projections: tuple[nn.Module, nn.Module, nn.Module]
) -> tuple[torch.Tensor, ...]:
    """Return q and k at length one, rotated by angles [S, D / 2], and v [B, S, H, D] of tokens x [B, S, C], by a
    layer's projections into q, k and v.
    """
    q, k, v = (project(x).unflatten(-1, (config.heads, config.head_width)) for project in projections)
    return unit_and_turned(q, angles), unit_and_turned(k, angles), v


def normed_heads(out: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return [B, S, H, D] with a root of its mean square of one in each head, times weight [D], in float32 at least."""
    precise = out.to(torch.promote_types(out.dtype, torch.float32))
    size = (precise.square().mean(-1, keepdim=True) + eps).rsqrt()  # [B, S, H, 1]
    return precise * size * weight.to(precise)


def take(x: torch.Tensor, slab: Slab) -> torch.Tensor:
    """Return the slab's tokens [B, S, C] of x [B, L, C]; a slab of one range is no copy."""
    parts = [x[:, start:stop] for start, stop in slab.ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def places_of(slab: Slab, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two [S] int64, in the order of the scan: where a token stands in the slab's tensors, and in the pass's
    input.
    """
    places, entries = [], []
    for run in slab.runs:
        count = torch.arange(len(run), device=device)
        start = slab.place(run.start)
        places.append(start + len(run) - 1 - count if run.backwards else start + count)
        entries.append(run.entry + count)
    return torch.cat(places), torch.cat(entries)


def angles_of(places: torch.Tensor, entries: torch.Tensor, layout: Layout, head_width: int) -> torch.Tensor:
    """Return [S, D / 2], radians, in the order of the slab's tensors. Positions count in the reversed video, as
    published, and over all of it. Text is not rotated, just as position 0 is not.
    """
    positions = torch.empty_like(entries)
    positions[places] = (entries - layout.text_tokens).clamp(min=0)
    return grid_angles(positions, layout.height, layout.width, head_width)
