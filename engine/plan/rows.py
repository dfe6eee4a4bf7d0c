"""Give a timeline as plain data, for those who draw it: a row for each shot, the segments over them, and the totals.

Longreel Plan hands this to the editor when it ran, and the dry run before anything is queued
(web/js/timeline_picture.js draws it). Seconds are of the video, frames are numbered from 0, shots and segments from 1.
What a loaded model needs is not known here; the latents' bytes are.
"""

from typing import Any

from .card_memory import WORKING_COPIES
from .report import crowded_note, rate_note, segments_of_shots, size_note
from .rollout_chunks import plan_chunks
from .timeline import PlannedShot, Timeline
from .usual_settings import UsualSettings

MOST_DRAWN = 4000  # segments or chunks; of more only the count is given


def plan_rows(
    timeline: Timeline, asked_size: tuple[int, int] | None = None, usual: tuple[UsualSettings, ...] = ()
) -> dict[str, Any]:
    """Return the timeline as data that JSON can hold; asked_size and usual are those of plan_report."""
    facts, own = timeline.facts, segments_of_shots(timeline)
    chunks = plan_chunks(timeline, timeline.overlap_frames)
    notes = size_note(timeline, asked_size) + rate_note(timeline, usual) + crowded_note(timeline)
    return {
        "family": facts.family,
        "fps": timeline.fps,
        "width": timeline.width,
        "height": timeline.height,
        "asked_seconds": sum(planned.shot.seconds for planned in timeline.shots),
        "seconds": timeline.seconds,
        "pixel_frames": timeline.pixel_frames,
        "latent_frames": timeline.latent_frames,
        "temporal_stride": facts.temporal_stride,
        "segment_frames": timeline.segment_frames,
        "overlap_frames": timeline.overlap_frames,
        "latent_bytes": latent_bytes(timeline),
        "shots": [_row(timeline, planned, own[planned.index]) for planned in timeline.shots],
        "segment_count": len(timeline.segments),
        "segments": [
            (segment.start_frame, segment.end_frame, segment.main_shot + 1)
            for segment in timeline.segments[:MOST_DRAWN]
        ],
        "chunk_count": len(chunks),
        "chunks": [(chunk.first_new_frame, chunk.end_frame, chunk.shot + 1) for chunk in chunks[:MOST_DRAWN]],
        "notes": [note.removeprefix("note: ") for note in notes],
    }


def latent_bytes(timeline: Timeline) -> int:
    """Return the bytes of the working copies of the whole timeline's latent, [1, C, F, H, W] float32 each."""
    facts = timeline.facts
    rows, columns = timeline.height // facts.spatial_stride, timeline.width // facts.spatial_stride
    return facts.latent_channels * timeline.latent_frames * rows * columns * 4 * WORKING_COPIES


def _row(timeline: Timeline, planned: PlannedShot, segments: list[int]) -> dict[str, Any]:
    first, last = timeline.shot_pixel_frames(planned)
    return {
        "id": planned.shot.id,
        "meets": "start" if planned.index == 0 else planned.shot.transition,
        "locked": planned.shot.locked,
        "asked_seconds": planned.shot.seconds,
        "seconds": (last - first) / timeline.fps,
        "pixel_frames": (first, last),
        "latent_frames": (planned.start_frame, planned.end_frame),
        "overlap_frames": planned.overlap_frames,
        "segments": (segments[0], segments[-1]),
    }
