"""Turn a storyboard into plain integers for one model: pixel frames, latent frames, takes, segments.

A *take* is a run of shots without a cut; nothing is shared across a cut. A take is covered by *segments*, the latent
frames that one evaluation of the network sees. Every shot has segments of its own; where a shot blends into the next,
segments whose prompt lies between the two stand evenly between them. With equal shots this is DiTCtrl's layout
(arXiv 2412.18597, section 3.4; engine/sampling/latent_blend.ditctrl_layout); shots of any length follow the same rule.

Shot boundaries are rounded to latent frames one by one from the exact sum of seconds, so rounding never adds up.
Ints only: no tensors, no model, no ComfyUI.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from ..storyboard.board import Shot, Storyboard
from .facts import ModelFacts

SHORTEST_DEFAULT = 5  # latent frames; models make little sense of shorter clips
MOST_SEGMENTS = 200_000  # a day and more of Wan; with them a plan takes seconds


@dataclass(frozen=True)
class PlannedShot:
    """A planned shot has the latent frames [start_frame, end_frame), `overlap_frames` of them shared with the one
    before.
    """

    index: int  # from 0
    shot: Shot
    start_frame: int
    end_frame: int
    overlap_frames: int

    @property
    def latent_frames(self) -> int:
        return self.end_frame - self.start_frame


@dataclass(frozen=True)
class Segment:
    """A segment is what one evaluation of the network sees at once: the `latent_frames` from `start_frame`.

    `mix` names the shots whose prompts it follows and their shares, which sum to one; `take` is the run of shots that
    it belongs to.
    """

    start_frame: int
    latent_frames: int
    mix: tuple[tuple[int, float], ...]
    take: int

    @property
    def end_frame(self) -> int:
        return self.start_frame + self.latent_frames

    @property
    def main_shot(self) -> int:
        return max(self.mix, key=lambda part: part[1])[0]


@dataclass(frozen=True)
class Timeline:
    """A timeline is a storyboard in the numbers of a model family: the latent frames of each shot, and the segments
    over them.
    """

    storyboard: Storyboard
    facts: ModelFacts
    fps: float
    width: int
    height: int
    segment_frames: int  # latent frames of a segment
    overlap_frames: int  # latent frames that neighbouring segments share
    transition_prompts: int
    shots: tuple[PlannedShot, ...]
    segments: tuple[Segment, ...]

    @property
    def latent_frames(self) -> int:
        return self.shots[-1].end_frame

    @property
    def pixel_frames(self) -> int:
        return self.facts.pixel_frames(self.latent_frames)

    @property
    def seconds(self) -> float:
        return self.pixel_frames / self.fps

    def take_start(self, segment: Segment) -> int:
        """Return the first latent frame of the take that the segment belongs to."""
        return self.take_starts[segment.take]

    @cached_property
    def take_starts(self) -> list[int]:
        """Return the latent frames at which takes begin: 0 and every cut."""
        return [take[0].start_frame for take in takes_of(self.shots)]

    @property
    def take_lengths(self) -> list[int]:
        """Return the latent frames of each take."""
        return [take[-1].end_frame - take[0].start_frame for take in takes_of(self.shots)]

    def shot_pixel_frames(self, shot: PlannedShot) -> tuple[int, int]:
        """Return the pixel frames of a shot as [first, last + 1)."""
        return self.facts.first_pixel_frame(shot.start_frame), self.facts.first_pixel_frame(shot.end_frame)


def plan_timeline(
    storyboard: Storyboard,
    facts: ModelFacts,
    *,
    fps: float | None = None,
    width: int | None = None,
    height: int | None = None,
    segment_frames: int | None = None,
    overlap_frames: int | None = None,
    transition_prompts: int = 1,
    check_interrupt: Callable[[], object] = lambda: None,
) -> Timeline:
    """Plan a timeline; what is not given comes from the storyboard or the family: a segment is the family's native
    clip, or as short as the shortest shot that shares its take with others, so that each of them has segments of its
    own; the overlap is just under half of it (DiTCtrl's 6 of 13). Width and height are rounded to the nearest size that
    the family can make. check_interrupt: called now and then, to raise what stops the plan.

    Raises ValueError, naming two numbers and the remedy, for what the family cannot make, and for more than
    MOST_SEGMENTS segments.
    """
    fps = storyboard.fps if fps is None else fps
    width, height = facts.nearest_size(
        storyboard.width if width is None else width, storyboard.height if height is None else height
    )
    length = _default_segment(storyboard, facts, fps) if segment_frames is None else segment_frames
    if length < 2:
        raise ValueError(f"a segment of {length} latent frames cannot overlap its neighbour; use 2 or more")
    overlap = max(1, length * 6 // 13) if overlap_frames is None else overlap_frames
    if not 0 <= overlap < length:
        raise ValueError(
            f"an overlap of {overlap} latent frames does not fit into segments of {length}; "
            f"use 0 to {length - 1} (up to {(length - 1) * facts.temporal_stride} pixel frames), "
            f"or longer segments"
        )
    if not 0 <= transition_prompts <= 16:
        raise ValueError(f"{transition_prompts} transition prompts; use 0 to 16")
    shots = _place_shots(storyboard, facts, fps, length, overlap)
    timeline = Timeline(storyboard, facts, fps, width, height, length, overlap, transition_prompts, shots, ())
    return cover_shots(timeline, shots, check_interrupt)


def cover_shots(
    timeline: Timeline, shots: tuple[PlannedShot, ...], check_interrupt: Callable[[], object] = lambda: None
) -> Timeline:
    """Return the timeline with its shots placed so, and segments over them."""
    length, overlap, between = timeline.segment_frames, timeline.overlap_frames, timeline.transition_prompts
    takes = takes_of(shots)
    refuse_endless("segments", takes, length, overlap, between)  # before they are written out
    segments: list[Segment] = []
    for number, take in enumerate(takes):
        check_interrupt()
        segments += _cover_take(take, number, length, overlap, between, check_interrupt)
    return replace(timeline, shots=shots, segments=tuple(segments))


def with_segments(
    timeline: Timeline,
    segment_frames: int | None = None,
    overlap_frames: int | None = None,
    transition_prompts: int | None = None,
) -> Timeline:
    """Return the same shots covered by other segments; None keeps what the timeline has."""
    if (segment_frames, overlap_frames, transition_prompts) == (None, None, None):
        return timeline
    length = timeline.segment_frames if segment_frames is None else segment_frames
    if overlap_frames is None and segment_frames is None:
        overlap_frames = timeline.overlap_frames
    count = timeline.transition_prompts if transition_prompts is None else transition_prompts
    planned = plan_timeline(
        timeline.storyboard,
        timeline.facts,
        fps=timeline.fps,
        width=timeline.width,
        height=timeline.height,
        segment_frames=length,
        overlap_frames=overlap_frames,
        transition_prompts=count,
    )
    shots = tuple(
        replace(shot, start_frame=placed.start_frame, end_frame=placed.end_frame)
        for shot, placed in zip(planned.shots, timeline.shots, strict=True)
    )
    return planned if shots == planned.shots else cover_shots(planned, shots)


def _default_segment(storyboard: Storyboard, facts: ModelFacts, fps: float) -> int:
    native = facts.native_latent_frames
    shortest, seconds, start = native, 0.0, 0
    take: list[int] = []  # latent frames of its shots
    for shot in (*storyboard.shots, None):
        if shot is None or shot.transition == "cut":
            shortest = min([shortest, *take]) if len(take) > 1 else shortest
            take = []
        if shot is not None:
            seconds += shot.seconds
            end = facts.nearest_latent_frames(seconds * fps)
            take.append(end - start)
            start = end
    return max(shortest, min(SHORTEST_DEFAULT, native))


def _place_shots(
    storyboard: Storyboard, facts: ModelFacts, fps: float, length: int, overlap: int
) -> tuple[PlannedShot, ...]:
    planned: list[PlannedShot] = []
    seconds, start = 0.0, 0
    for index, shot in enumerate(storyboard.shots):
        seconds += shot.seconds
        end = facts.nearest_latent_frames(seconds * fps)
        if end <= start:
            shortest = math.ceil(1000 * facts.temporal_stride / fps) / 1000
            raise ValueError(
                f"shot {index + 1}: seconds {shot.seconds:g} is {shot.seconds * fps:.1f} pixel frames at "
                f"{fps:g} fps, less than one latent frame ({facts.temporal_stride}) of {facts.family}; "
                f"use {shortest:g} s or more"
            )
        shared = overlap
        if shot.overlap_seconds is not None and index:
            shared = round(shot.overlap_seconds * fps / facts.temporal_stride)
            if shared >= length:
                longest = math.floor(1000 * (length - 1) * facts.temporal_stride / fps) / 1000
                raise ValueError(
                    f"shot {index + 1}: overlap_seconds {shot.overlap_seconds:g} is {shared} latent frames, "
                    f"but a segment has {length}; use {longest:g} s or less, "
                    f"or longer segments"
                )
        first_of_take = index == 0 or shot.transition == "cut"
        planned.append(PlannedShot(index, shot, start, end, 0 if first_of_take else shared))
        start = end
    return tuple(planned)


def takes_of(shots: tuple[PlannedShot, ...]) -> list[list[PlannedShot]]:
    """Return runs of shots without a cut between them."""
    takes: list[list[PlannedShot]] = []
    for shot in shots:
        if not takes or shot.shot.transition == "cut":
            takes.append([])
        takes[-1].append(shot)
    return takes


def refuse_endless(
    what: str, takes: list[list[PlannedShot]], length: int, overlap: int, transition_prompts: int
) -> None:
    """Raise ValueError where windows of `length` latent frames that share `overlap` would be more than MOST_SEGMENTS.

    what: "segments" or "chunks".
    """
    blends = sum(shot.shot.transition == "blend" for take in takes for shot in take[1:])
    frames = takes[-1][-1].end_frame
    count = sum(
        len(take) + (take[-1].end_frame - take[0].start_frame) // min(length - overlap, length) for take in takes
    )
    if (count := count + blends * transition_prompts) > MOST_SEGMENTS:
        raise ValueError(
            f"{frames:,} latent frames in {what} of {length} that share {overlap} are about {count:,} {what}, and at "
            f"most {MOST_SEGMENTS:,} are planned; use fewer frames per second or seconds, longer segments, a smaller "
            f"overlap, or several storyboards"
        )


def _cover_take(
    take: list[PlannedShot],
    number: int,
    length: int,
    overlap: int,
    transition_prompts: int,
    check_interrupt: Callable[[], object],
) -> list[Segment]:
    """Return the segments of one take, by rising start. A take shorter than a segment is one segment per shot, all of
    its length.
    """
    begin, end = take[0].start_frame, take[-1].end_frame
    length = min(length, end - begin)
    own = []
    for position, shot in enumerate(take):
        after = take[position + 1] if position + 1 < len(take) else None
        low = begin if not position else shot.start_frame - _reach(shot, length, transition_prompts)[1]
        high = end if after is None else after.start_frame + _reach(after, length, transition_prompts)[0]
        own.append(_cover_range(max(begin, low), min(end, high), shot, begin, end, length, min(overlap, length - 1)))
    segments = []
    for position, (shot, starts) in enumerate(zip(take, own, strict=True)):
        check_interrupt()
        segments += [Segment(s, length, ((shot.index, 1.0),), number) for s in starts]
        if position + 1 < len(take) and take[position + 1].shot.transition == "blend":
            left, right = starts[-1], own[position + 1][0]
            for j in range(1, transition_prompts + 1):
                share = j / (transition_prompts + 1)
                mix = ((shot.index, 1 - share), (take[position + 1].index, share))
                segments.append(Segment(round(left + (right - left) * share), length, mix, number))
    return sorted(segments, key=lambda s: (s.start_frame, s.mix[-1]))


def _reach(later: PlannedShot, length: int, transition_prompts: int) -> tuple[int, int]:
    """Return how far, in latent frames, the own segments left and right of a boundary reach beyond it (negative: stop
    short of it, because transition segments stand in between).
    """
    shared = min(later.overlap_frames, length - 1)
    between = transition_prompts if later.shot.transition == "blend" else 0
    width = (between - 1) * (length - shared) + length  # all transition segments together; without any, the overlap
    total = 2 * shared - width
    # An odd frame of an overlap is the earlier shot's, as in TTT's segments (12 i, 12 i + 13); in a gap the later
    # one's.
    left = total // 2 if total > 0 else -(-total // 2)
    return left, total - left


def _cover_range(low: int, high: int, shot: PlannedShot, begin: int, end: int, length: int, overlap: int) -> list[int]:
    """Return starts of segments that cover [low, high) inside the take [begin, end); the last one is shifted back. A
    range shorter than a segment gets one, with its middle inside the shot, so that segments follow each other as shots
    do.
    """
    if high - low < length:
        middle = min(max(shot.start_frame, (low + high) // 2), shot.end_frame)
        low = min(max(begin, middle - length // 2), end - length)
        high = low + length
    starts = list(range(low, high - length + 1, length - overlap))
    if starts[-1] + length < high:
        starts.append(high - length)
    return starts
