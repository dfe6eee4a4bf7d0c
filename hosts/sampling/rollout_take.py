"""Make one take of a rollout for another ComfyUI, which asked for it and keeps the run folder.

    plan the same chunks -> take what was given -> sample the take's missing ones -> hand over each as its file's bytes

A take reads nothing of another one but the video's first chunk, where a memory of the whole video is on the model; that
one is given then. Who asks has planned the same rollout and says what each chunk depends on. Where it would depend on
something else here (another checkpoint under the same name, another version of a pack), nothing is made: two halves of
a video must not come from two models. How orders and chunks travel is hosts/cluster.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...engine.plan.kept_frames import KeptFrames
from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from ...engine.runs.chunk_file import ChunkKey, DamagedChunk, chunk_bytes, parse_chunk, read_chunk
from ..types import ModelPatcher
from .experts import WAN_22_EXPERTS_MEET
from .rollout import make_chunk
from .rollout_dependencies import ChunkKeys
from .rollout_progress import RolloutProgress
from .rollout_task import RolloutTask, plan_task
from .settings import Sampling

Keep = Callable[[str, bytes], None]  # the name and the bytes of a finished chunk's file


@dataclass(frozen=True, kw_only=True)
class TakeOrder:
    """An order says which take is to be made and what is known of it; plain values alone, so that it can be sent.

    take: from 0. chunks: of the whole rollout. hashes: by chunk number, of all of them. wanted: by number of each chunk
    to be made, what it depends on (engine/runs/chunk_file.ChunkKey). given: by number, the file's bytes of finished
    chunks that the take has or reads. kept: by shot, the frames that locked shots keep. folder: the run folder, as the
    asking machine calls it; where it is seen here too, chunks that were finished since are read there.
    """

    take: int
    chunks: int
    hashes: Mapping[int, str]
    wanted: Mapping[int, Mapping[str, str]]
    given: Mapping[int, bytes]
    kept: Mapping[int, KeptFrames]
    folder: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return the order in dicts, lists, numbers, texts and bytes."""
        return {**vars(self), "kept": {shot: asdict(frames) for shot, frames in self.kept.items()}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "TakeOrder":
        kept = {shot: KeptFrames(**{**one, "pieces": tuple(one["pieces"])}) for shot, one in plain["kept"].items()}
        return cls(**{**plain, "kept": kept})


def sample_take(
    model: ModelPatcher,
    timeline: Timeline,
    latent: dict,
    sampling: Sampling,
    order: TakeOrder,
    keep: Keep,
    *,
    low_noise_model: ModelPatcher | None = None,
    low_noise_from: float = WAN_22_EXPERTS_MEET,
) -> None:
    """Make the chunks of a take that are wanted, and hand each to `keep` as soon as it is finished.

    Arguments are those of hosts/sampling/rollout.sample_rollout. Raises ValueError, before anything is sampled, where
    the chunks would be others than those that were asked for.
    """
    task = plan_task(model, timeline, latent, sampling, low_noise_model, low_noise_from, order.kept)
    keys = _keys(task, order)
    progress = RolloutProgress(task)
    finished = torch.zeros_like(task.start, dtype=torch.float32)  # [B, C, F, H, W]; other takes stay empty
    sampled = False
    for chunk in task.chunks:
        new = _given(order, chunk)
        if new is None and chunk.number not in keys:
            continue  # of another take
        if new is None:
            key = keys[chunk.number]
            new = _found(order, key)
            if new is None:
                new = make_chunk(task, chunk, finished, progress, first=not sampled).cpu().contiguous()
                sampled = True
            keep(key.file_name, chunk_bytes(key, {"samples": new}))
        finished[:, :, chunk.first_new_frame : chunk.end_frame] = new


def _keys(task: RolloutTask, order: TakeOrder) -> dict[int, ChunkKey]:
    """Return the keys of the wanted chunks. Raises ValueError where they are not those of the order."""
    if len(task.chunks) != order.chunks:
        raise ValueError(
            f"the rollout has {len(task.chunks)} chunks here and {order.chunks} where it was asked for; give both "
            f"the same models, inputs and packs"
        )
    if task.reads_video and order.take and 0 not in order.given:
        raise ValueError(
            f"take {order.take + 1} remembers the video's first chunk, and was asked for without it; make it first"
        )
    own = {chunk.number for chunk in task.chunks if chunk.take == order.take}
    if missing := sorted(own - set(order.wanted) - set(order.given)):
        raise ValueError(f"chunk {missing[0] + 1} of take {order.take + 1} is neither given nor wanted; ask for it")
    keys_of, keys = ChunkKeys(task), {}
    for chunk in task.chunks:
        if chunk.number in order.wanted:
            key = keys[chunk.number] = keys_of.of(chunk, order.hashes)
            _check_same(key, order.wanted[chunk.number])
    return keys


def _check_same(key: ChunkKey, wanted: Mapping[str, str]) -> None:
    names = dict.fromkeys([*wanted, *key.dependencies])
    if other := [name for name in names if wanted.get(name) != key.dependencies.get(name)]:
        raise ValueError(
            f"chunk {key.number + 1} of shot {key.shot + 1} would be another one here than in the ComfyUI that asked "
            f"for it: {', '.join(other)} differ; give both the same files, ComfyUI and packs"
        )


def _given(order: TakeOrder, chunk: Chunk) -> torch.Tensor | None:
    """Return the new frames of a chunk that came with the order. Raises DamagedChunk."""
    if chunk.number not in order.given:
        return None
    return parse_chunk(Path(f"chunk {chunk.number + 1}"), order.given[chunk.number], any_name=True).tensors["samples"]


def _found(order: TakeOrder, key: ChunkKey) -> torch.Tensor | None:
    """Return the new frames of a chunk that lies in the run folder, where that is seen here; None to make it."""
    path = Path(order.folder) / key.file_name
    if not order.folder or not path.is_file():
        return None
    try:
        found = read_chunk(path)
    except (DamagedChunk, OSError):
        return None  # whoever keeps the folder says so, and replaces it
    return found.tensors["samples"] if found.hash == key.hash else None
