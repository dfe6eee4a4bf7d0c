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
from collections.abc import Iterator
from dataclasses import dataclass

from .timeline import PlannedShot, Timeline, refuse_endless, takes_of

Mix = tuple[tuple[int, float], ...]


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


def plan_chunks(timeline: Timeline, known_frames: int) -> tuple[Chunk, ...]:
    """Return all chunks in the order in which they are made.

    known_frames: latent frames that a chunk takes over at least from its take, 0 to segment_frames - 1; the first chunk
    of a take has none. A window is as long as a segment, so where a shot ends early it reaches further back over
    finished frames; only where the take has not got that much behind the window's end is it shorter.

    Raises ValueError where no frame of a window would be new, and for more than MOST_SEGMENTS chunks.
    """
    length = timeline.segment_frames
    if not 0 <= known_frames < length:
        raise ValueError(
            f"{known_frames} known frames leave nothing new in chunks of {length} latent frames; use 0 to "
            f"{length - 1}, or longer segments in Longreel Plan"
        )
    takes = takes_of(timeline.shots)
    refuse_endless("chunks", takes, length, known_frames, timeline.transition_prompts)  # before they are written out
    chunks: list[Chunk] = []
    pieces = [0] * len(timeline.shots)
    for number, take in enumerate(takes):
        begin = take[0].start_frame
        for stretch_start, stretch_end, mix in _stretches(take, timeline.transition_prompts):
            at = stretch_start
            while at < stretch_end:
                most = length if at == begin else length - known_frames
                end = min(at + most, stretch_end)
                start = max(begin, min(at, end - length))
                shot = mix[-1][0]
                chunks.append(Chunk(len(chunks), start, end, at - start, mix, shot, pieces[shot], number))
                pieces[shot] += 1
                at = end
    return tuple(chunks)


def _stretches(take: list[PlannedShot], transition_prompts: int) -> Iterator[tuple[int, int, Mix]]:
    """Yield (start, end, mix) of neighbouring stretches of a take that follow one prompt."""
    begin = take[0].start_frame
    for position, shot in enumerate(take):
        later = take[position + 1] if position + 1 < len(take) else None
        before, after = (0, 0) if later is None else _shared(shot, later, transition_prompts)
        yield begin, shot.end_frame - before, ((shot.index, 1.0),)
        begin = shot.end_frame + after
        if later is None:
            continue
        start, frames = shot.end_frame - before, before + after
        count = min(transition_prompts, frames)
        edges = [start + frames * j // count for j in range(count + 1)] if count else []
        for j, (left, right) in enumerate(itertools.pairwise(edges), start=1):
            share = j / (count + 1)
            yield left, right, ((shot.index, 1 - share), (later.index, share))


def _shared(shot: PlannedShot, later: PlannedShot, transition_prompts: int) -> tuple[int, int]:
    """Return the latent frames before and after a boundary that both shots share; each shot keeps at least one for
    itself.
    """
    if later.shot.transition != "blend" or not transition_prompts:
        return 0, 0
    # An odd frame is the earlier shot's, as in engine/plan/timeline.py.
    return (
        min(-(-later.overlap_frames // 2), (shot.latent_frames - 1) // 2),
        min(later.overlap_frames // 2, (later.latent_frames - 1) // 2),
    )
