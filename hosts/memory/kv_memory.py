"""Read keys and values of finished frames beside a chunk's own in self or joint attention: the run of a memory feature.

Context passes (hosts/windows/context_pass.py) show the network the remembered frames at the chunk's first step, at a
few noise levels. Their keys and values are kept at those levels, moved in time to where the frames stand for the
reader, and in every step read from the nearest level. A remembered key counts `weight` times in the softmax: 1 as one
of the chunk's own, 0 as if it were not there. Frames that every chunk remembers in the same way (an anchor) are shown
once for all chunks, and their keys and values cached; of others nothing is kept when the chunk is finished.

Training-free, and so not StreamingT2V's CAM (hosts/memory/cam.py). Which frames are remembered, and why, is not known
here.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ...engine.attention import kv_share
from ...engine.attention.kv_share import KeysValues
from ...engine.plan.needs import AttentionSize, Keep, Need
from ...engine.plan.rollout_chunks import Mix
from ...engine.to_device import sent
from ..attention.feature import Evaluation, Start
from ..attention.kv_cache import KVCache
from ..families.sites import CROSS, Call
from ..types import Attention
from ..windows.chunk_handler import ChunkHandler
from ..windows.context_pass import CONTEXT_PASS, ContextPass


@dataclass(frozen=True)
class Memory:
    """A memory is finished frames that a chunk remembers.

    latents: [B, C, F, H, W] as a LATENT holds them. weights: one per frame, 0..1. place: latent frames from the
    window's first frame to their first one; negative before the window. mix: the shots whose prompts they are shown
    under, with their shares. first_frame: where they begin on the timeline, from 0.
    """

    latents: torch.Tensor
    weights: tuple[float, ...]
    place: int
    mix: Mix
    first_frame: int | None = None


class Shown(NamedTuple):
    """These context passes were made over the contents, and left these keys and values."""

    contents: Hashable
    passes: list[ContextPass]
    kept: KVCache


class CacheEntry(NamedTuple):
    """This says where keys and values lie in the handler's cache, and what they are of; other contents are not
    read.
    """

    key: Hashable
    contents: Hashable


class KVMemory:
    """This is one run of a sampler that reads a memory.

    memory: None where nothing is remembered yet. layers: blocks of the network, from 0. levels: noise levels at which
    the frames are shown. cache: empty, for keys and values. cache_entry: lets later chunks read the keys and values
    without a context pass; None for this chunk alone.
    """

    needs_every_evaluation = True  # but where statistics are all that is remembered

    def __init__(
        self,
        handler: ChunkHandler,
        memory: Memory | None,
        layers: frozenset[int],
        levels: Sequence[float],
        cache: KVCache | None = None,
        cache_entry: CacheEntry | None = None,
    ):
        self.handler, self.layers = handler, layers
        active = memory is not None and memory.latents.shape[2] > 0 and any(memory.weights)
        self.memory = memory if active else None
        self.passes = [
            ContextPass(memory.latents, level, memory.mix, first_frame=memory.first_frame)
            for level in (levels if active else ())
        ]
        self.kept = cache  # labels are context passes
        self.passes_made = False
        if active and cache_entry is not None:
            key, contents = cache_entry
            if key in handler.cache and handler.cache[key].contents == contents:
                self.passes, self.kept = handler.cache[key].passes, handler.cache[key].kept
                self.passes_made = True
            else:
                let_go_of_others(handler.cache)
                handler.cache[key] = Shown(contents, self.passes, self.kept)

    def roles(self, segment: int) -> tuple[str, ...]:
        return ()

    def context_passes(self, sigma: float) -> Sequence[ContextPass]:
        wanted = [] if self.passes_made else self.passes
        self.passes_made = True
        return wanted

    def begin(self, evaluation: Evaluation) -> None:
        self.near = min(self.passes, key=lambda context: abs(context.sigma - evaluation.sigma), default=None)

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        if self.memory is None or kind == CROSS or block not in self.layers:
            return False
        return evaluation.role != CONTEXT_PASS or self.handler.context_pass in self.passes

    def attend(self, call: Call, next_attention: Attention) -> torch.Tensor:
        if call.evaluation.role == CONTEXT_PASS:
            self.kept.put(self.handler.context_pass, call, self._placed(call))
            return next_attention(call.q, call.k, call.v, call.mask)

        def attend(q: torch.Tensor, own: KeysValues, read: KeysValues) -> torch.Tensor:
            return kv_share.attend_shared(next_attention, q, own, read, kv_share.EXTEND, share_text=False)

        return self.kept.read(self.near, call).attend(attend)

    def _placed(self, call: Call) -> KeysValues:
        """Return the video's keys alone, where they belong in time, with their weights as logarithms on the logits."""
        forward, video = call.forward, call.video
        k = forward.time_shift(call.k[:, :, video], self.memory.place / forward.patch_frames)
        mask = None if call.mask is None else call.mask[..., video]
        if any(weight != 1 for weight in self.memory.weights):
            bias = log_weights(self.memory.weights[:: forward.patch_frames], math.prod(forward.grid[1:]))
            bias = sent(bias, k)
            mask = (bias if mask is None else mask + bias).expand(k.shape[0], -1, -1, -1)  # rows are joined
        return KeysValues(k, call.v[:, :, video], mask)


def need_of(name: str, size: AttentionSize, layers: frozenset[int], frames: int, levels: int, keep: Keep) -> Need:
    """Return the bytes of so many latent frames' keys and values, at so many noise levels, in these layers."""
    sites = sum(kind != CROSS and block in layers for kind, block in size.sites)
    tokens = size.video_tokens(frames)
    kept = levels * sites * size.bytes_of(tokens, keep.form)
    return size.need(name, kept=kept, tokens=tokens, keep=keep, joined=True)


def let_go_of_others(cache: dict) -> None:
    """Let go what other context passes over an anchor left: two experts, or two takes, are not kept at once."""
    for key in [key for key, shown in cache.items() if isinstance(shown, Shown)]:
        del cache[key]


def log_weights(weights: Sequence[float], tokens_of_frame: int) -> torch.Tensor:
    """Return [1, 1, 1, video tokens], what is added to the logits of keys that count `weights` times, one per token
    frame."""
    logs = torch.tensor(weights).log().clamp(min=torch.finfo(torch.float16).min)
    return logs.repeat_interleave(tokens_of_frame)[None, None, None]


def require_whole_chunk(start: Start, name: str) -> None:
    """Raise ValueError where other windows than Longreel's cut a chunk: what is remembered stands beside all of it."""
    if start.handler.inside is not None:
        raise ValueError(
            f"{name} needs a chunk to be seen at once, and another context handler on this model cuts it; remove the "
            f"context windows node"
        )


def require_rotary(start: Start, name: str) -> None:
    """Raise ValueError for a network whose keys cannot be moved in time."""
    if start.family.time_shift(start.model.diffusion_model, (), {}) is None:
        raise ValueError(
            f"{name} moves remembered keys in time, which takes rotary positions, and this network has none; use known "
            f"frames alone"
        )


def levels_of(start: Start, count: int) -> tuple[float, ...]:
    """Return up to `count` noise levels at which frames are shown: those in the middle of equal parts of the steps.

    Where frames are shown clean alone, early steps read too much from them; where noised alone, too little is there to
    read.
    """
    steps = len(start.sigmas) - 1
    places = sorted({min(steps - 1, (2 * part + 1) * steps // (2 * count)) for part in range(count)})
    return tuple(float(start.sigmas[place]) for place in places)
