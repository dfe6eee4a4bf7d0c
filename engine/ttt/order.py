"""Say in which order a TTT layer reads a video of several segments: text and video in turns, forwards and backwards.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3) and its public code, where
every segment is 13 latent frames, shares one with each neighbour, and brings a text of its own. Tokens stand joined:
the texts of all segments, then all video frames once, each row by row. A scan reads text 0, the frames of segment 0,
text 1, ...; the scan backwards reads the last segment first and every frame from its last token to its first, but a
text always in its own direction. A frame that two segments share belongs to the one that the scan reads first.

Plain ints: nothing here has seen a tensor, a model or a prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

Range = tuple[int, int]  # first, last + 1


@dataclass(frozen=True)
class Layout:
    """A layout says where the tokens of texts and frames stand when a video of several segments is joined.

    `text_lengths`: the tokens of each segment's text, zeros where text is not joined to the video. `windows`: the
    latent frames [start, stop) that each segment sees; neighbours may share some. `height`, `width`: a frame's rows and
    columns of tokens. `leads`: the frames that each segment's attention looks at in front of its window, of which it
    says nothing; left out, none.

    Raises ValueError where the windows do not cover the frames in order, or a segment lacks its text or its lead.
    """

    text_lengths: tuple[int, ...]
    windows: tuple[Range, ...]
    height: int
    width: int
    leads: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.text_lengths) != len(self.windows) or not self.windows:
            raise ValueError(
                f"{len(self.text_lengths)} texts for {len(self.windows)} segments; give each segment one (of 0 "
                f"tokens where text is not joined)"
            )
        before = (0, 0)
        for number, (start, stop) in enumerate(self.windows):
            ordered = start == 0 if not number else before[0] < start <= before[1] < stop
            if not ordered or start >= stop:
                raise ValueError(
                    f"segment {number} sees frames {start} to {stop}, the one before {before[0]} to "
                    f"{before[1]}; segments must start at frame 0 and move on without a gap"
                )
            before = (start, stop)
        if not self.leads:
            object.__setattr__(self, "leads", ((),) * len(self.windows))
        outside = [frame for lead in self.leads for frame in lead if not 0 <= frame < self.frames]
        if len(self.leads) != len(self.windows) or outside:
            raise ValueError(
                f"{len(self.leads)} leads for {len(self.windows)} segments, with frames {outside} outside of "
                f"{self.frames}; give each segment one of frames that there are, or none any"
            )

    @property
    def segments(self) -> int:
        return len(self.windows)

    @property
    def frames(self) -> int:
        return self.windows[-1][1]

    @property
    def frame_tokens(self) -> int:
        return self.height * self.width

    @property
    def text_tokens(self) -> int:
        return sum(self.text_lengths)

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.frames * self.frame_tokens

    def text_of(self, segment: int) -> Range:
        """Return the joined tokens of a segment's text."""
        start = sum(self.text_lengths[:segment])
        return start, start + self.text_lengths[segment]

    def seen_by(self, segment: int) -> tuple[Range, ...]:
        """Return the frames that a segment's attention looks at, its lead and then its window, as runs."""
        runs: list[Range] = []
        for frame in (*self.leads[segment], *range(*self.windows[segment])):
            if runs and runs[-1][1] == frame:
                runs[-1] = runs[-1][0], frame + 1
            else:
                runs.append((frame, frame + 1))
        return tuple(runs)

    def tokens_of(self, frames: Range) -> Range:
        """Return the joined tokens of some frames."""
        return self.text_tokens + frames[0] * self.frame_tokens, self.text_tokens + frames[1] * self.frame_tokens


def even_layout(text_tokens: int, segments: int, frames: int, height: int, width: int) -> Layout:
    """Lay out `segments` of frames // segments frames and one more that is shared with the next, as the paper does.

    Where the division leaves more than one frame, all of them are shared. Each segment has `text_tokens` tokens of
    text.
    """
    own, shared = divmod(frames, segments)
    windows = [(own * i, own * (i + 1) + shared) for i in range(segments)]
    return Layout((text_tokens,) * segments, tuple(windows), height, width)


@dataclass(frozen=True)
class Run:
    """A run is joined tokens [start, stop), read from the first to the last, or backwards. `entry` is where its first
    token (as read) stands in the input of the pass: all texts, then all frames, both in the order of the pass.
    """

    start: int
    stop: int
    entry: int
    backwards: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, first: int, stop: int) -> "Run":
        """Return the tokens read from number `first` to `stop` - 1."""
        if self.backwards:
            return Run(self.stop - stop, self.stop - first, self.entry + first, True)
        return Run(self.start + first, self.start + stop, self.entry + first)


@dataclass(frozen=True)
class Slab:
    """A slab is the part of a scan from place `first`: the joined tokens of `ranges` (ascending, apart), read as `runs`
    say. A slab's tensors hold its tokens in the order of `ranges`.
    """

    first: int
    runs: tuple[Run, ...]
    ranges: tuple[Range, ...]

    def __len__(self) -> int:
        return sum(len(run) for run in self.runs)

    def place(self, token: int) -> int:
        """Return where a joined token stands in the slab's tensors."""
        before = 0
        for start, stop in self.ranges:
            if start <= token < stop:
                return before + token - start
            before += stop - start
        raise ValueError(f"token {token} is not in the slab of {self.ranges}")


def pass_runs(layout: Layout, backwards: bool = False) -> list[Run]:
    """Return what one pass takes in: the texts, then all frames; backwards, the last text first and the video
    reversed.
    """
    segments = reversed(range(layout.segments)) if backwards else range(layout.segments)
    runs, entry = [], 0
    for segment in segments:
        runs.append(Run(*layout.text_of(segment), entry))
        entry += len(runs[-1])
    return [run for run in runs if len(run)] + [Run(*layout.tokens_of((0, layout.frames)), entry, backwards)]


def own_frames(layout: Layout, backwards: bool = False) -> list[Range]:
    """Return each segment's frames, in the order of the segments, if a shared frame counts with the segment
    read first.
    """
    if backwards:
        borders = [start for start, stop in layout.windows] + [layout.frames]
    else:
        borders = [0] + [stop for start, stop in layout.windows]
    return list(pairwise(borders))


def scan_runs(layout: Layout, backwards: bool = False) -> list[Run]:
    """Return the whole scan: each segment's text, then its own frames."""
    frames = own_frames(layout, backwards)
    runs, text_entry, video_entry = [], 0, layout.text_tokens
    for segment in reversed(range(layout.segments)) if backwards else range(layout.segments):
        text = Run(*layout.text_of(segment), text_entry)
        video = Run(*layout.tokens_of(frames[segment]), video_entry, backwards)
        runs += [text, video] if len(text) else [video]
        text_entry, video_entry = text_entry + len(text), video_entry + len(video)
    return runs


def slabs(layout: Layout, backwards: bool, tokens: int | None = None) -> Iterator[Slab]:
    """Return the scan in slabs of `tokens` tokens, the last one shorter; None: all of it in one."""
    size, first = tokens or layout.tokens, 0
    held: list[Run] = []
    for run in scan_runs(layout, backwards):
        taken = 0
        while taken < len(run):
            step = min(len(run) - taken, size - sum(len(part) for part in held))
            held.append(run.part(taken, taken + step))
            taken += step
            if sum(len(part) for part in held) == size:
                yield _slab(first, held)
                first, held = first + size, []
    if held:
        yield _slab(first, held)


def segment_slabs(layout: Layout) -> list[Slab]:
    """Return the scan forwards in slabs of one segment: its text, then its own frames."""
    runs, found, first = iter(scan_runs(layout)), [], 0
    for text in layout.text_lengths:
        held = [next(runs) for _ in range(2 if text else 1)]
        found.append(_slab(first, held))
        first += len(found[-1])
    return found


def frame_slabs(layout: Layout, backwards: bool, frames: int) -> Iterator[Slab]:
    """Return the scan in slabs of at most `frames` frames of one segment, which is divided evenly; the first of a
    segment begins with its text.
    """
    first, text = 0, []
    for run in scan_runs(layout, backwards):
        if run.stop <= layout.text_tokens:
            text = [run]
            continue
        count = len(run) // layout.frame_tokens
        parts = -(-count // frames)
        for start, stop in pairwise(count * part // parts for part in range(parts + 1)):
            slab = _slab(first, [*text, run.part(start * layout.frame_tokens, stop * layout.frame_tokens)])
            yield slab
            first, text = first + len(slab), []


def _slab(first: int, runs: list[Run]) -> Slab:
    ranges: list[Range] = []
    for start, stop in sorted((run.start, run.stop) for run in runs):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = ranges[-1][0], stop
        else:
            ranges.append((start, stop))
    return Slab(first, tuple(runs), tuple(ranges))


def chunks_of_last_tokens(layout: Layout, backwards: bool, chunk: int) -> list[int]:
    """Return for every chunk of the scan which chunk of the pass's input holds its last token.

    The public training code cuts the learning rates into chunks before it interleaves text and video, and its kernels
    then read, for a whole chunk, those that came along with the last token (its function in engine/ttt/layer.py).
    Where texts and segments are multiples of `chunk` this is each chunk's own.
    """
    lasts = list(range(chunk - 1, layout.tokens, chunk))
    if layout.tokens % chunk:
        lasts.append(layout.tokens - 1)
    chunks: list[int] = []
    first = 0
    for run in scan_runs(layout, backwards):
        while len(chunks) < len(lasts) and lasts[len(chunks)] < first + len(run):
            chunks.append((run.entry + lasts[len(chunks)] - first) // chunk)
        first += len(run)
    return chunks
