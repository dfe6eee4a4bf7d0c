"""Remember over the long term in a rollout, without training: every chunk knows how the video, or its take, began.

Two means, together or alone. The anchor frames' keys and values are read in self or joint attention by every later
chunk, as an attention sink that never slides out of the window (hosts/memory/kv_memory.py); and the latent statistics
of each finished chunk are pulled to those of the first one before it is handed over
(engine/sampling/channel_statistics.py), against a drift of colour and contrast. Neither is StreamingT2V's APM, which is
trained (hosts/memory/apm.py).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...engine.plan.needs import AUTO, CARD, FULL, PLACES, AttentionSize, Keep, Need
from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from ...engine.sampling.channel_statistics import match_statistics
from ..attention.feature import Start
from ..attention.kv_cache import KVCache
from ..families import picture_channels_of
from ..families.picture_channels import MASK, PICTURE
from ..windows.chunk_handler import ChunkHandler, Remembered, handler_of
from .kv_memory import CacheEntry, KVMemory, Memory, levels_of, need_of, require_rotary, require_whole_chunk

NAME = "Longreel Long Memory"
VIDEO, TAKE = "video", "take"  # whose beginning is the anchor
BEFORE, TRUE = "before", "true"  # where in time it stands
CONTEXT_LEVELS = 2  # noise levels at which the anchor frames are shown in a context pass


@dataclass(frozen=True)
class LongMemory:
    """The first frames of the video, or of each take, are an anchor that every later chunk reads.

    anchor: VIDEO or TAKE, whose first frames are remembered; TAKE anchors anew at every cut. frames: so many latent
    frames, at most those of the first chunk. placement: BEFORE the window, or TRUE where they are. strength: 0..1, how
    many times their keys count in the softmax. layers: blocks of the network, from 0. statistics: 0..1, how far a
    chunk's statistics are pulled to those of the anchor's chunk. context_levels: noise levels at which the anchor is
    shown in a context pass. place, form: where and how its keys and values are kept (engine/plan/needs.py).
    """

    anchor: str
    frames: int
    placement: str
    strength: float
    layers: frozenset[int]
    statistics: float
    context_levels: int = CONTEXT_LEVELS
    place: str = AUTO
    form: str = FULL

    name: ClassVar[str] = NAME
    excludes: ClassVar[dict[str, str]] = {NAME: "each anchors the same chunks"}
    STORED_NAMES: ClassVar[dict[str, str]] = {"context_levels": "looks"}  # see hosts/sampling/identity.py
    NOT_STORED: ClassVar[dict[str, tuple]] = {"place": PLACES, "form": (FULL,)}  # results are the same with these

    @property
    def keep(self) -> Keep:
        return Keep(self.place, self.form)

    def frames_before(self, timeline: Timeline) -> int:
        return 0

    def reads_anchor(self) -> bool:
        return bool(self.strength or self.statistics)

    def reads_video(self) -> bool:
        return self.reads_anchor() and self.anchor == VIDEO

    def start(self, start: Start) -> KVMemory:
        handler = handler_of(start, NAME)
        if self.strength:
            require_rotary(start, self.name)
            require_whole_chunk(start, self.name)
        memory, levels = self._memory(handler), levels_of(start, self.context_levels)
        cache = KVCache(self.name, self.keep, start.places.get(self.name, CARD))
        run = KVMemory(handler, memory, self.layers, levels, cache, self._cache_entry(start, handler, memory, levels))
        run.needs_every_evaluation = bool(self.strength)
        return run

    def _cache_entry(
        self, start: Start, handler: ChunkHandler, memory: Memory | None, levels: tuple[float, ...]
    ) -> CacheEntry | None:
        """Return what tells one context pass over the anchor from another, or None where every chunk needs its own:
        where the anchor stands elsewhere in time, or pictures of the chunk's own are beside the latent."""
        channels = picture_channels_of(start.model)
        shown_anew = () if channels is None or channels.control else (PICTURE, MASK)  # as the frames themselves
        pictures = any(
            isinstance(value, torch.Tensor) and value.ndim == 5 and key not in shown_anew
            for entries in start.conds.values()
            for entry in entries
            for key, value in entry.items()
        )
        if memory is None or self.placement == TRUE or pictures:
            return None
        contents = self._first(handler.remembered).number, memory.latents.shape[2], levels
        return CacheEntry((self.name, id(start.model)), contents)

    def _memory(self, handler: ChunkHandler) -> Memory | None:
        """Return the anchor frames that are not in the window anyway, or None where they are not yet made."""
        start, latents = handler.chunk.start_frame, self._anchor(handler.remembered)
        made_by = self._first(handler.remembered)
        if latents is None or made_by.start_frame >= start:
            return None
        shown = latents[:, :, : min(self.frames, start - made_by.start_frame)]
        frames = shown.shape[2]
        place = -frames if self.placement == BEFORE else made_by.start_frame - start
        return Memory(shown, (self.strength,) * frames, place, made_by.mix, made_by.start_frame)

    def _first(self, remembered: Remembered) -> Chunk | None:
        return remembered.take_first if self.anchor == TAKE else remembered.video_first

    def _anchor(self, remembered: Remembered) -> torch.Tensor | None:
        return remembered.take_anchor if self.anchor == TAKE else remembered.video_anchor

    def finish(self, new: torch.Tensor, remembered: Remembered) -> torch.Tensor:
        anchor = self._anchor(remembered)
        return new if anchor is None else match_statistics(new, anchor, self.statistics)

    def need(self, size: AttentionSize) -> Need:
        frames = self.frames if self.strength else 0
        return need_of(self.name, size, self.layers, frames, self.context_levels, self.keep)
