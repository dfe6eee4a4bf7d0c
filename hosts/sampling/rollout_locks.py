"""Say to a run folder which shots a storyboard has, and to the plan of a rollout what locked ones keep.

How shots are recognised and which files they keep is engine/runs/record.py, how the plan gives way to them is
engine/plan/kept_frames.py. Nothing is sampled or written here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from ...engine.plan.kept_frames import KeptFrames
from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from ...engine.runs.folder import LockedShot
from ...engine.runs.shots import RunShot
from .rollout_task import FRAME_AXIS, RolloutTask


def run_shots(timeline: Timeline, chunks: Sequence[Chunk] = ()) -> list[RunShot]:
    """Return the shots of a timeline as a run folder knows them; chunks: those planned, once they are."""
    board, pieces = timeline.storyboard, Counter(chunk.shot for chunk in chunks)
    return [
        RunShot(
            prompt=board.prompt_of(planned.shot),
            own_prompt=planned.shot.prompt,
            id=planned.shot.id,
            seed=planned.shot.seed,
            seconds=planned.shot.seconds,
            locked=planned.shot.locked,
            fps=timeline.fps,
            family=timeline.facts.family,
            pieces=pieces.get(planned.index),
        )
        for planned in timeline.shots
    ]


def locked_frames(locked: Mapping[int, LockedShot]) -> dict[int, KeptFrames]:
    """Return the frames that locked shots (from 0) keep, as the plan needs them."""
    return {
        number: KeptFrames(
            tuple(shapes["samples"][FRAME_AXIS] for shapes in shot.shapes),
            shot.is_complete,
            **({} if shot.made is None else {key: getattr(shot.made, key) for key in ("seconds", "fps", "family")}),
        )
        for number, shot in locked.items()
    }


def check_sizes(task: RolloutTask, locked: Mapping[int, LockedShot]) -> None:
    """Raise ValueError for a locked shot whose latents are of another batch, model or size."""
    batch, channels, _, *size = task.start.shape
    stride = task.timeline.facts.spatial_stride
    for number, shot in sorted(locked.items()):
        for kept_batch, kept_channels, _, *kept_size in (shapes["samples"] for shapes in shot.shapes):
            if (kept_batch, kept_channels, kept_size) != (batch, channels, size):
                was, now = (
                    f"{b} videos of {c} channels and {columns * stride}x{rows * stride} pixels"
                    for b, c, (rows, columns) in ((kept_batch, kept_channels, kept_size), (batch, channels, size))
                )
                raise ValueError(
                    f"shot {number + 1} is locked and was made in {was}, where {now} are asked for; go back to its "
                    f"size, batch and model, or unlock it to have it made again"
                )


def unkept_note(timeline: Timeline, why: str) -> str:
    """Say for people that locked shots are made like others, and why; empty without any."""
    locked = [str(planned.index + 1) for planned in timeline.shots if planned.shot.locked]
    return f"locked, and made all the same because {why}: shots {', '.join(locked)}" if locked else ""


def moved_note(made: Timeline, planned: Timeline) -> str:
    """Say for people which shots begin elsewhere than planned."""
    moved = [
        str(now.index + 1)
        for now, then in zip(made.shots, planned.shots, strict=True)
        if now.start_frame != then.start_frame
    ]
    length = (
        ""
        if made.latent_frames == planned.latent_frames
        else f"; the video has {made.latent_frames} latent frames where {planned.latent_frames} were planned"
    )
    places = f"; shots that begin earlier or later than planned: {', '.join(moved)}" if moved else ""
    return f"locked shots keep their frames, and the plan gives way{places}{length}"
