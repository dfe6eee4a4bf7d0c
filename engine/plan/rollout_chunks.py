"""Cut a timeline into a rollout's chunks, which are finished one after another, each continuing from the one before.

StreamingT2V (arXiv 2403.14773, section 4) makes long video this way: every chunk sees the last frames of what is there
and adds new ones. Here a chunk is a window of latent frames of one take. Its first `known_frames` are finished and
handed over as they are, the rest are new; every latent frame of the timeline is new in exactly one chunk, and no window
reaches across a cut.

A shot's frames follow its prompt alone, except the frames that two shots share in a `blend`: those are made in chunks
of their own, whose prompts move from one shot to the next as in engine/plan/timeline.py.

Ints only: how a chunk is sampled, and what else it remembers, is not known here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .kept_frames import KeptFrames, ShotFrames, shot_frames
from .timeline import Timeline, refuse_endless, takes_of

Mix = tuple[tuple[int, float], ...]
Piece = tuple[int, int, Mix]  # new latent frames [start, end) of a chunk, and its prompts


@dataclass(frozen=True)
class Chunk:
    """A chunk is the window of latent frames [start_frame, end_frame), of which the first `known_frames` are finished
    before.

    `mix` names the shots whose prompts it follows and their shares, which sum to one. It belongs to `shot`, the later
    one of the mix, as its piece number `piece` (from 0), and to the run of shots `take`.
    """

    number: int
    start_frame: int
    end_frame: int
    known_frames: int
    mix: Mix
    shot: int
    piece: int
    take: int

    @property
    def latent_frames(self) -> int:
        return self.end_frame - self.start_frame

    @property
    def first_new_frame(self) -> int:
        return self.start_frame + self.known_frames

    @property
    def new_frames(self) -> int:
        return self.end_frame - self.first_new_frame

    def to_plain(self) -> dict[str, object]:
        """Return the chunk under the keys that plan.json of a run folder has had from the first version on."""
        return {
            "number": self.number,
            "start": self.start_frame,
            "end": self.end_frame,
            "known": self.known_frames,
            "mix": self.mix,
            "shot": self.shot,
            "piece": self.piece,
            "take": self.take,
        }


def plan_chunks(
    timeline: Timeline,
    known_frames: int,
    frames: Sequence[ShotFrames] | None = None,
    kept: Mapping[int, KeptFrames] | None = None,
) -> tuple[Chunk, ...]:
    """Return all chunks in the order in which they are made.

    known_frames: latent frames that a chunk takes over at least from its take, 0 to segment_frames - 1; the first chunk
    of a take has none. A window is as long as a segment, so where a shot ends early it reaches further back over
    finished frames; only where the take has not got that much behind the window's end is it shorter. frames, kept: of
    shots that keep finished frames, and the frames that are then made with each shot (engine/plan/kept_frames.py).

    Raises ValueError where no frame of a window would be new, and for more than MOST_SEGMENTS chunks.
    """
    length = timeline.segment_frames
    if not 0 <= known_frames < length:
        raise ValueError(
            f"{known_frames} known frames leave nothing new in chunks of {length} latent frames; use 0 to "
            f"{length - 1}, or longer segments in Longreel Plan"
        )
    frames = shot_frames(timeline) if frames is None else frames
    takes = takes_of(timeline.shots)
    refuse_endless("chunks", takes, length, known_frames, timeline.transition_prompts)  # before they are written out
    chunks: list[Chunk] = []
    for take_number, take in enumerate(takes):
        begin = frames[take[0].index].start_frame
        for shot in take:
            stretches = _stretches(shot.index, frames[shot.index], timeline.transition_prompts)
            pieces = _pieces(stretches, begin, length, known_frames)
            if kept and shot.index in kept:
                pieces = _kept_pieces(kept[shot.index].pieces, pieces, stretches, (begin, length, known_frames))
            for piece, (at, end, mix) in enumerate(pieces):
                start = max(begin, min(at, end - length))
                chunks.append(Chunk(len(chunks), start, end, at - start, mix, shot.index, piece, take_number))
    return tuple(chunks)


def _stretches(shot: int, frames: ShotFrames, transition_prompts: int) -> list[Piece]:
    """Return the neighbouring stretches of the frames that are made with a shot, each of which follows one prompt."""
    blended = frames.blend_frames
    count = min(transition_prompts, blended)
    edges = [frames.start_frame + blended * j // count for j in range(count + 1)] if count else []
    shares = [j / (count + 1) for j in range(1, count + 1)]
    blend = [
        (left, right, ((shot - 1, 1 - share), (shot, share)))
        for share, (left, right) in zip(shares, itertools.pairwise(edges), strict=True)
    ]
    return [*blend, (frames.start_frame + blended, frames.end_frame, ((shot, 1.0),))]


def _pieces(stretches: Sequence[Piece], begin: int, length: int, known_frames: int) -> list[Piece]:
    """Return the new frames of chunks that cover the stretches of a take that begins at `begin`."""
    pieces = []
    for start, stretch_end, mix in stretches:
        at = start
        while at < stretch_end:
            end = min(at + (length if at == begin else length - known_frames), stretch_end)
            pieces.append((at, end, mix))
            at = end
    return pieces


def _kept_pieces(
    lengths: Sequence[int], planned: list[Piece], stretches: Sequence[Piece], window: tuple[int, int, int]
) -> list[Piece]:
    """Return the chunks of a shot that keeps finished ones of these lengths, and after them what is not made yet.

    window: begin, length and known frames of `_pieces`.
    """
    if [end - at for at, end, _ in planned[: len(lengths)]] == list(lengths):
        return planned
    at, own = stretches[0][0], stretches[-1][2]
    pieces = []
    for frames in lengths:
        pieces.append((at, at + frames, own))
        at += frames
    return pieces + _pieces([(max(at, start), end, mix) for start, end, mix in stretches if end > at], *window)
