"""Long-term memory of a rollout, without training: every chunk knows how the video, or its take, began.

Two means, together or alone. The anchor frame's keys and values are read in self or joint attention by every later chunk,
as an attention sink that never slides out of the window (hosts/kv_memory.py); and the latent statistics of each finished
chunk are pulled to those of the first one before it is handed over (engine/statistics.py), against a drift of colour and
contrast. Neither is StreamingT2V's APM, which is trained (hosts/apm.py).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..engine.statistics import match_statistics
from ..engine.timeline import Timeline
from .chunk_handler import ChunkHandler, Remembered, handler_of
from .kv_memory import PROMPTS, KVMemory, Memory, levels_of
from .patching import Start

NAME = "Longreel Long Memory"
VIDEO, TAKE = "video", "take"  # whose beginning is the anchor
BEFORE, TRUE = "before", "true"  # where in time it stands
LOOKS = 2  # noise levels at which the anchor frame is shown


@dataclass(frozen=True)
class LongMemory:
    """`anchor` VIDEO or TAKE: whose first latent frame is remembered; TAKE anchors anew at every cut. `placement`: just in
    front of the window, or where it is. Its keys count `strength` (0..1) times in the softmax. `layers` are blocks of the
    network. `statistics` 0..1 pulls a chunk's statistics to those of the anchor's chunk."""

    anchor: str
    placement: str
    strength: float
    layers: frozenset[int]
    statistics: float
    looks: int = field(default=LOOKS)

    name: ClassVar[str] = NAME
    excludes: ClassVar[dict[str, str]] = {NAME: "each anchors the same chunks"}
    kept_frames: ClassVar[int] = 1

    def frames_before(self, timeline: Timeline) -> int:
        return 0

    def reads_anchor(self) -> bool:
        return bool(self.strength or self.statistics)

    def start(self, start: Start) -> KVMemory:
        handler = handler_of(start, NAME)
        return KVMemory(handler, self._memory(handler), self.layers, levels_of(start, self.looks))

    def _memory(self, handler: ChunkHandler) -> Memory | None:
        """The anchor frame, unless it is in the window anyway, or not yet made."""
        chunk, latents = handler.chunk, self._anchor(handler.remembered)
        at = handler.remembered.take_start if self.anchor == TAKE else 0
        if latents is None or at >= chunk.start:
            return None
        return Memory(latents[:, :, :1], (self.strength,), -1 if self.placement == BEFORE else at - chunk.start)

    def _anchor(self, remembered: Remembered) -> torch.Tensor | None:
        return remembered.take_anchor if self.anchor == TAKE else remembered.video_anchor

    def finish(self, new: torch.Tensor, remembered: Remembered) -> torch.Tensor:
        anchor = self._anchor(remembered)
        return new if anchor is None else match_statistics(new, anchor, self.statistics)

    def kept_bytes(self, bytes_of_layer: int) -> int:
        return PROMPTS * self.looks * len(self.layers) * bytes_of_layer if self.strength else 0
