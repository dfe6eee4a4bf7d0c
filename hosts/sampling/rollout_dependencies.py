"""Name what a finished chunk of a rollout depends on, and find it in the run folder under a hash of that.

The names below are read by people, in reports ("made again: the prompt changed"), and are hashed with what stands
beside them: neither they nor what they stand for may change, or every run on disk would be made again
(tests/hosts/sampling/test_stored_hashes.py).
"""

import json
from collections.abc import Mapping

import torch

from comfy.nested_tensor import NestedTensor

from ...engine.plan.rollout_chunks import Chunk
from ...engine.runs.chunk_file import ChunkKey, chunk_key
from ...engine.runs.folder import LockedShot, RunFolder
from .. import keys
from ..windows.streams import Latent
from . import identity
from .rollout_locks import check_sizes, moved_note, run_shots, unkept_note
from .rollout_task import RolloutTask

PLACES = (keys.SHOT, keys.ROLE, keys.WORDS, keys.UNCUT, keys.SOUND)  # say where an entry belongs, not what it is


STREAMS = ("samples", "sound")  # names in a chunk's file


class NoRun:
    """This stands for a run folder where nothing is kept."""

    def __init__(self, task: RolloutTask):
        self.count = len(task.chunks)
        self.note = unkept_note(task.timeline, "a run without run_name keeps nothing")

    def find(self, chunk: Chunk) -> None:
        """Return None: nothing is kept."""

    def save(self, chunk: Chunk, new: Latent) -> Latent:
        """Return `new` as it is."""
        return new

    def report(self) -> str:
        """Return what was made."""
        return "\n".join(filter(None, (self.note, f"{self.count} chunks made")))


class ChunkKeys:
    """These are the keys of a task's chunks; what all of them depend on is hashed once, because the model takes
    longest.
    """

    def __init__(self, task: RolloutTask):
        self.task = task
        self.common = common_dependencies(task)
        self.common_hashes = chunk_key(0, 0, 0, self.common).dependencies

    def of(self, chunk: Chunk, hashes: Mapping[int, str]) -> ChunkKey:
        """Return the key of a chunk; hashes: of the chunks before it, by number."""
        dependencies = dependencies_of(self.task, chunk, hashes, self.common)
        own = {name: value for name, value in dependencies.items() if name not in self.common}
        found = {**chunk_key(chunk.number, chunk.shot, chunk.piece, own).dependencies, **self.common_hashes}
        in_order = {name: found[name] for name in dependencies}
        return ChunkKey(chunk.number, chunk.shot, chunk.piece, in_order)


class ChunkRun:
    """These are the chunks of a task in an open run folder. They are asked for in their order: each depends on those
    before.
    """

    def __init__(self, task: RolloutTask, folder: RunFolder, locked: Mapping[int, LockedShot], node_id: str):
        self.task, self.folder = task, folder
        self.hashes: dict[int, str] = {}  # by chunk number
        self.keys: dict[int, ChunkKey] = {}
        self.locked, self.keys_of = locked, ChunkKeys(task)
        check_sizes(task, locked)
        self._check_lost_locks()
        _begin(task, folder, node_id)

    def find(self, chunk: Chunk) -> Latent | None:
        """Return the new frames [B, C, F, H, W] of a chunk that was made before, or None if it must be made."""
        key = self.keys[chunk.number] = self.keys_of.of(chunk, self.hashes)
        start = self.task.start
        shape = [*start.shape[:2], chunk.new_frames, *start.shape[3:]]
        locked = self.task.timeline.shots[chunk.shot].shot.locked
        shapes = {"samples": shape}
        if self.task.sound is not None:
            of_sound = self.task.sound.start.shape
            shapes["sound"] = [*of_sound[:2], self.task.sound.span(chunk).new_frames, *of_sound[3:]]
        saved = self.folder.find(key, locked, shapes)
        if saved is None:
            return None
        self.hashes[chunk.number] = saved.hash
        return _latent_of(saved.tensors)

    def expect(self, chunk: Chunk) -> None:
        """Let the chunks behind one that was not found be looked for before it is made: its hash is known."""
        self.hashes[chunk.number] = self.keys[chunk.number].hash

    def save(self, chunk: Chunk, new: Latent) -> Latent:
        """Write the new frames of a chunk that was not found, and return them as they were written."""
        streams = new.unbind() if new.is_nested else [new]
        tensors = {name: stream.contiguous() for name, stream in zip(STREAMS, streams, strict=False)}
        saved = self.folder.save(self.keys[chunk.number], tensors)
        self.hashes[chunk.number] = saved.hash
        return _latent_of(saved.tensors)

    def report(self) -> str:
        """Return what was made and what was used again, a line per chunk."""
        made, planned = self.task.timeline, self.task.planned
        moved = [] if made is planned else [moved_note(made, planned)]
        return "\n".join([*moved, self.folder.report()])

    def _check_lost_locks(self) -> None:
        """Raise ValueError where the record is lost and a locked shot's chunks are not found by what they depend on."""
        locked = [planned.index for planned in self.task.timeline.shots if planned.shot.locked]
        if not self.folder.lost_record or not locked:
            return
        for chunk in self.task.chunks:
            found = self.folder.has(self.keys_of.of(chunk, self.hashes))
            if found is None:  # and nothing that continues from it can be found
                left = {one.shot for one in self.task.chunks[chunk.number :]}
                if lost := sorted(left & set(locked)):
                    raise self.folder.lost_lock(lost[0])
                break
            self.hashes[chunk.number] = found
        self.hashes.clear()


def common_dependencies(task: RolloutTask) -> dict[str, object]:
    """Return what every chunk depends on, by names that people read."""
    low = task.experts.low
    return {
        "cfg": task.sampling.cfg,
        "the sampler": [identity.plain(task.sampling.sampler), task.sampling.sigmas],
        "the memory": [[feature.name, identity.plain(feature)] for feature in task.features],
        "the model": identity.of_model(task.experts.high),
        "the low-noise model": None if low is None else [identity.of_model(low), task.experts.meet],
    }


def dependencies_of(
    task: RolloutTask, chunk: Chunk, hashes: Mapping[int, str], common: dict[str, object]
) -> dict[str, object]:
    """Return what one chunk depends on, the likeliest change first, because reports name it first.

    hashes: of the finished chunks, by number. common: of `common_dependencies`.
    """
    window = slice(chunk.start_frame, chunk.end_frame)
    own = frozenset(shot for shot, _ in chunk.mix)
    positive, negative = _prompts(task, chunk, own)
    shots = [task.timeline.shots[shot].shot for shot, _ in chunk.mix]
    return {
        "the prompt": positive,
        "the negative prompt": negative,
        "the seed": [task.seed_of(chunk), task.sampling.add_noise, task.batch_index],
        "the strength": [[shot.strength, share] for shot, (_, share) in zip(shots, chunk.mix, strict=True)],
        "the frames": [chunk.latent_frames, chunk.known_frames],
        "the latent": [task.start[:, :, window], None if task.mask is None else task.mask[:, :, window]],
        **_sound(task, chunk),
        "the anchors": identity.plain([one.stored() for one in task.anchors_of(chunk)]),
        **({"the picture channels": "known frames"} if task.shows_known_frames(chunk) else {}),
        **common,
        "the remembered prompts": _prompts(task, chunk, task.shots_of(chunk) - own),
        "the chunk before": [hashes[number] for number in task.read_by(chunk)],
    }


def _sound(task: RolloutTask, chunk: Chunk) -> dict[str, object]:
    """Return what a chunk's sound depends on, of a family that makes it."""
    if task.sound is None:
        return {}
    span, mask = task.sound.span(chunk), task.sound.mask
    window = slice(span.start, span.end)
    parts = [task.sound.start[:, :, window], None if mask is None else mask[:, :, window]]
    return {"the sound": [span.first_new - span.start, span.new_frames, span.lead, *parts]}


def _latent_of(tensors: Mapping[str, torch.Tensor]) -> Latent:
    """Return the new frames of a chunk's file, with their sound where it has any."""
    streams = [tensors[name] for name in STREAMS if name in tensors]
    return NestedTensor(streams) if len(streams) > 1 else streams[0]


def _prompts(task: RolloutTask, chunk: Chunk, shots: frozenset[int]) -> list[list]:
    """Return [positive, negative] of these shots, each a list of [text, what goes with it]."""
    return [
        [
            [text, identity.plain({key: value for key, value in options.items() if key not in PLACES})]
            for text, options in entries
        ]
        for entries in task.prompts_of(chunk, shots)
    ]


def _begin(task: RolloutTask, folder: RunFolder, node_id: str) -> None:
    """See that there is room, and write storyboard, plan and record into the folder, before anything is sampled."""
    board = task.timeline.storyboard
    plan = {"segment_frames": task.timeline.segment_frames, "chunks": [chunk.to_plain() for chunk in task.chunks]}
    most = max(chunk.new_frames for chunk in task.chunks)
    missing = max(0, len(task.chunks) - len(list(folder.path.glob("chunk_*.safetensors"))))
    folder.require_space(missing, task.start[:, :, :most].numel() * torch.float32.itemsize)
    folder.begin(board.to_json(), json.dumps(plan, indent=1), run_shots(task.planned, task.chunks), node_id)
