"""Short-term memory of a rollout, without training: what has just been made is held, or read, by the next chunk.

Two methods, which may be used together. `KnownFrames`: the last frames begin the next window and are held there by the
rollout's denoise mask (hosts/sampling/rollout.py), at the noise level of each step or clean (hosts/memory/known_frames.py). `KeysAndValues`: frames in front of the window are
read in self or joint attention, at their true place in time (hosts/memory/kv_memory.py). Neither is StreamingT2V's CAM, which is
trained (hosts/memory/cam.py).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...engine.plan.timeline import Timeline
from ..attention import patching
from ..attention.patching import Start
from ..windows.chunk_handler import handler_of
from . import known_frames as clean_frames
from .known_frames import CleanFrames
from .kv_memory import PROMPTS, KVMemory, Memory, levels_of, require_rotary

NAME = "Longreel Short Memory"
CLEAN, AT_ZERO, NOISED = "clean", "clean at time 0", "noised"  # how known frames are shown
KNOWN_FRAMES, KEYS_AND_VALUES = "known frames", "keys and values"  # the methods, as users choose them
LOOKS = 2  # noise levels at which frames are shown


@dataclass(frozen=True)
class KnownFrames:
    """`frames`: latent frames that are held at least, 0 for the plan's overlap. `strength` 0..1, 1 keeps them as they
    are; `decay` 0..1 is what each chunk further back loses of it. `shown` CLEAN, AT_ZERO or NOISED: how the network sees them."""

    shown: str
    frames: int
    strength: float
    decay: float

    name: ClassVar[str] = f"{NAME} ({KNOWN_FRAMES})"
    excludes: ClassVar[dict[str, str]] = {name: "each says how the same frames are held"}

    def known_frames(self, timeline: Timeline) -> int:
        return self.frames or timeline.overlap_frames

    def hold(self, chunks_back: int) -> float:
        return weight_of(self.strength, self.decay, chunks_back)

    def start(self, start: Start) -> CleanFrames | KVMemory:
        handler = handler_of(start, NAME)
        if self.shown == NOISED:
            return KVMemory(handler, None, frozenset(), ())
        clean_frames.check(start, NAME, self.shown == AT_ZERO)
        chunk, maker_of = handler.chunk, handler.remembered.maker_of
        holds = [self.hold(chunk.number - maker_of(frame).number) for frame in range(chunk.start, chunk.new_start)]
        return CleanFrames(start, handler, tuple(holds), self.shown == AT_ZERO)

    def kept_bytes(self, bytes_of_layer: int) -> int:
        return 0


@dataclass(frozen=True)
class KeysAndValues:
    """`frames` latent frames in front of the window. Their keys count `strength` (0..1) times in the softmax, and those of
    each chunk further back `decay` (0..1) less. `layers` are blocks of the network."""

    frames: int
    strength: float
    decay: float
    layers: frozenset[int]
    looks: int = field(default=LOOKS)

    name: ClassVar[str] = f"{NAME} ({KEYS_AND_VALUES})"
    excludes: ClassVar[dict[str, str]] = {name: "each reads the frames in front of the window"}

    @property
    def kept_frames(self) -> int:
        return self.frames

    def frames_before(self, timeline: Timeline) -> int:
        return self.frames if self.strength else 0

    def reads_anchor(self) -> bool:
        return False

    def start(self, start: Start) -> KVMemory:
        handler = handler_of(start, NAME)
        if self.strength:
            require_rotary(start, self.name)
        chunk, remembered = handler.chunk, handler.remembered
        latents = remembered.before(chunk.start, self.frames)
        frames = latents.shape[2]
        weights = tuple(
            weight_of(self.strength, self.decay, chunk.number - remembered.maker_of(frame).number)
            for frame in range(chunk.start - frames, chunk.start)
        )
        memory = Memory(latents, weights, -frames, remembered.maker_of(chunk.start - 1).mix) if frames else None
        return KVMemory(handler, memory, self.layers, levels_of(start, self.looks))

    def kept_bytes(self, bytes_of_layer: int) -> int:
        # Twice: prompt by prompt, and joined for the batch.
        return 2 * PROMPTS * self.looks * len(self.layers) * bytes_of_layer if self.strength else 0


def attach(model, feature: KnownFrames | KeysAndValues):
    """A clone of `model` (ModelPatcher) with this memory. Raises ValueError where it has one of the kind."""
    model = patching.attach(model, feature)
    return clean_frames.attach(model) if isinstance(feature, KnownFrames) and feature.shown != NOISED else model


def weight_of(strength: float, decay: float, chunks_back: int) -> float:
    """1 chunk back is the chunk before."""
    return strength * (1 - decay) ** (chunks_back - 1)
