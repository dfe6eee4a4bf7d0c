"""Remember over the short term in a rollout, without training: what has just been made is kept, or read, by the next
chunk.

Two methods, which may be used together. `KnownFrames`: the last frames begin the next window and are kept there by the
rollout's denoise mask (hosts/sampling/rollout.py), at the noise level of each step or clean
(hosts/memory/known_frames.py). `KeysAndValues`: frames before the window are read in self or joint attention, at their
true place in time (hosts/memory/kv_memory.py). Neither is StreamingT2V's CAM, which is trained (hosts/memory/cam.py).
"""

from dataclasses import dataclass
from typing import ClassVar

from ...engine.plan.needs import AUTO, CARD, FULL, PLACES, AttentionSize, Keep, Need
from ...engine.plan.timeline import Timeline
from ..attention import patching
from ..attention.feature import Start
from ..attention.kv_cache import KVCache
from ..families import picture_channels_of
from ..types import ModelPatcher
from ..windows.chunk_handler import handler_of
from . import known_frames
from .known_frames import KnownFramesRun
from .kv_memory import KVMemory, Memory, levels_of, need_of, require_rotary, require_whole_chunk

NAME = "Longreel Short Memory"
CLEAN, AT_ZERO, NOISED = "clean", "clean at time 0", "noised"  # how known frames are shown
KNOWN_FRAMES, KEYS_AND_VALUES = "known frames", "keys and values"  # the methods, as users choose them
CONTEXT_LEVELS = 2  # noise levels at which frames are shown in a context pass


@dataclass(frozen=True)
class KnownFrames:
    """The last finished frames begin the next window.

    shown: CLEAN, AT_ZERO or NOISED, how the network sees them. frames: latent frames that are kept at least, 0 for the
    plan's overlap. strength: their keep strength, 0..1; 1 keeps them as they are. decay: 0..1, what each chunk further
    back loses of it.
    """

    shown: str
    frames: int
    strength: float
    decay: float

    name: ClassVar[str] = f"{NAME} ({KNOWN_FRAMES})"
    excludes: ClassVar[dict[str, str]] = {name: "each says how the same frames are kept"}

    def known_frames(self, timeline: Timeline) -> int:
        return self.frames or timeline.overlap_frames

    def keep_strength(self, chunks_back: int) -> float:
        return weight_of(self.strength, self.decay, chunks_back)

    def start(self, start: Start) -> KnownFramesRun | KVMemory:
        handler = handler_of(start, NAME)
        in_channels = picture_channels_of(start.model) is not None  # an image-to-video network sees them clean there
        if self.shown == NOISED or (self.shown == CLEAN and in_channels):
            return KVMemory(handler, None, frozenset(), ())
        known_frames.check(start, NAME, self.shown == AT_ZERO)
        chunk, maker_of = handler.chunk, handler.remembered.maker_of
        keep_strengths = tuple(
            self.keep_strength(chunk.number - maker_of(frame).number)
            for frame in range(chunk.start_frame, chunk.first_new_frame)
        )
        return KnownFramesRun(start, handler, keep_strengths, self.shown == AT_ZERO)

    def need(self, size: AttentionSize) -> Need:
        return Need(self.name)


@dataclass(frozen=True)
class KeysAndValues:
    """Keys and values of frames before the window are read beside the window's own.

    frames: latent frames before the window. strength: 0..1, how many times their keys count in the softmax. decay:
    0..1, what each chunk further back loses of it. layers: blocks of the network, from 0. context_levels: noise levels
    at which the frames are shown in a context pass. place, form: where and how keys and values are kept
    (engine/plan/needs.py).
    """

    frames: int
    strength: float
    decay: float
    layers: frozenset[int]
    context_levels: int = CONTEXT_LEVELS
    place: str = AUTO
    form: str = FULL

    name: ClassVar[str] = f"{NAME} ({KEYS_AND_VALUES})"
    excludes: ClassVar[dict[str, str]] = {name: "each reads the frames before the window"}
    STORED_NAMES: ClassVar[dict[str, str]] = {"context_levels": "looks"}  # see hosts/sampling/identity.py
    NOT_STORED: ClassVar[dict[str, tuple]] = {"place": PLACES, "form": (FULL,)}  # results are the same with these

    @property
    def keep(self) -> Keep:
        return Keep(self.place, self.form)

    def frames_before(self, timeline: Timeline) -> int:
        return self.frames if self.strength else 0

    def reads_anchor(self) -> bool:
        return False

    def reads_video(self) -> bool:
        return False

    def start(self, start: Start) -> KVMemory:
        handler = handler_of(start, NAME)
        if self.strength:
            require_rotary(start, self.name)
            require_whole_chunk(start, self.name)
        chunk, remembered = handler.chunk, handler.remembered
        latents = remembered.before(chunk.start_frame, self.frames)
        frames = latents.shape[2]
        weights = tuple(
            weight_of(self.strength, self.decay, chunk.number - remembered.maker_of(frame).number)
            for frame in range(chunk.start_frame - frames, chunk.start_frame)
        )
        memory = None
        if frames:
            mix = remembered.maker_of(chunk.start_frame - 1).mix
            memory = Memory(latents, weights, -frames, mix, chunk.start_frame - frames)
        cache = KVCache(self.name, self.keep, start.places.get(self.name, CARD))
        return KVMemory(handler, memory, self.layers, levels_of(start, self.context_levels), cache)

    def need(self, size: AttentionSize) -> Need:
        frames = self.frames if self.strength else 0
        return need_of(self.name, size, self.layers, frames, self.context_levels, self.keep)


def attach(model: ModelPatcher, feature: KnownFrames | KeysAndValues):
    """Return a clone of `model` with this memory. Raises ValueError where it has one of the kind."""
    model = patching.attach(model, feature)
    return known_frames.attach(model) if isinstance(feature, KnownFrames) and feature.shown != NOISED else model


def weight_of(strength: float, decay: float, chunks_back: int) -> float:
    """Return the weight, 0..1, of frames made so many chunks ago; 1 chunk back is the chunk before."""
    return strength * (1 - decay) ** (chunks_back - 1)
