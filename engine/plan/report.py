"""Report the dry run as text: what each shot becomes, every rounding, how often the network runs and what it needs.

Plain strings from a Timeline; the memory table is handed in by whoever knows the model.
"""

from collections.abc import Sequence

from .anchor import AUTO, place_in_shot
from .rollout_chunks import plan_chunks
from .timeline import PlannedShot, Timeline, takes_of
from .usual_settings import UsualSettings


def network_evaluations(timeline: Timeline, steps: int, guidance: bool) -> int:
    """Count the segments shown to the network in one run of a sampler with one evaluation per step; guidance shows each
    twice.
    """
    return len(timeline.segments) * steps * (2 if guidance else 1)


def plan_report(
    timeline: Timeline,
    steps: int,
    guidance: bool,
    memory: Sequence[str] = (),
    asked_size: tuple[int, int] | None = None,
    usual: Sequence[UsualSettings] = (),
) -> str:
    """Return a table shot -> seconds -> pixel frames -> latent frames -> segments, then the totals.

    memory: lines of the memory table (engine/plan/memory_table.py). asked_size: width and height in pixels before they
    were rounded; None asks for the timeline's. usual: what core's templates set for the model.
    """
    header = ("shot", "asked s", "gets s", "pixel frames", "latent frames", "meets", "segments", "prompt")
    own = segments_of_shots(timeline)
    rows = [header] + [_row(timeline, planned, own[planned.index]) for planned in timeline.shots]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header) - 1)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)) + "  " + row[-1]
        for row in rows
    ]
    facts = timeline.facts
    asked = sum(planned.shot.seconds for planned in timeline.shots)
    lines += [
        "",
        f"{facts.family}: {timeline.width} x {timeline.height} pixels, {timeline.fps:g} fps; asked {asked:.3f} s = "
        f"{asked * timeline.fps:.1f} pixel frames, gets {timeline.seconds:.3f} s = {timeline.pixel_frames} "
        f"pixel frames = {timeline.latent_frames} latent frames ({facts.temporal_stride} pixel frames each, "
        f"the first one)",
        f"segments: {len(timeline.segments)} of up to {max(s.latent_frames for s in timeline.segments)} latent frames, "
        f"overlap {timeline.overlap_frames}, {timeline.transition_prompts} transition prompts per blend; the "
        f"model was trained on {facts.native_latent_frames} latent frames",
        f"network evaluations: {network_evaluations(timeline, steps, guidance)} = {len(timeline.segments)} segments x "
        f"{steps} steps x {2 if guidance else 1} prompts ({'with' if guidance else 'without'} guidance; samplers that "
        f"evaluate twice per step double it)",
        _in_rollout(timeline, steps, guidance),
        *(one.line() for one in usual),
        *memory,
    ]
    lines += size_note(timeline, asked_size) + rate_note(timeline, usual)
    return "\n".join(lines + crowded_note(timeline) + locked_note(timeline) + anchor_note(timeline))


def size_note(timeline: Timeline, asked_size: tuple[int, int] | None) -> list[str]:
    """Say that the size was rounded; nothing where it was not."""
    if asked_size in (None, (timeline.width, timeline.height)):
        return []
    facts = timeline.facts
    return [
        f"note: {asked_size[0]}x{asked_size[1]} asked, {timeline.width}x{timeline.height} planned ({facts.family} "
        f"works in multiples of {facts.size_multiple} pixels)"
    ]


def rate_note(timeline: Timeline, usual: Sequence[UsualSettings]) -> list[str]:
    """Say that the storyboard's frames per second are not those that the network makes; nothing where they are, and
    for networks that are told them.
    """
    facts, fps = timeline.facts, timeline.fps
    made = {one.fps for one in usual} or {facts.native_fps}
    if facts.unsaid_frame_rate is not None or fps in made:
        return []
    rate = min(made)
    return [
        f"note: the storyboard has {fps:g} fps and {facts.family} makes frames for {rate:g}, so everything moves "
        f"{fps / rate:.3g} times as fast as it was meant; use fps {rate:g} in the storyboard, and more frames by "
        f"interpolating the finished video"
    ]


def _in_rollout(timeline: Timeline, steps: int, guidance: bool) -> str:
    chunks, prompts = len(plan_chunks(timeline, timeline.overlap_frames)), 2 if guidance else 1
    return (
        f"in rollout: {chunks} chunks, each continuing from the {timeline.overlap_frames} latent frames before; "
        f"{chunks * steps * prompts} network evaluations"
    )


def locked_note(timeline: Timeline) -> list[str]:
    """Return one line naming the locked shots; nothing without any."""
    locked = [str(planned.index + 1) for planned in timeline.shots if planned.shot.locked]
    if not locked:
        return []
    return [
        f"note: shots {', '.join(locked[:10])}{', ...' * (len(locked) > 10)} are locked: a rollout with a run name "
        f"keeps what it made of them; joint sampling makes them anew"
    ]


def anchor_note(timeline: Timeline) -> list[str]:
    """Say where the storyboard's anchors stand, one line each, and which node holds them; nothing without any."""
    found = [
        (
            f"shot {planned.index + 1}, anchor {place + 1}",
            anchor,
            place_in_shot(timeline, planned, anchor.at, AUTO, 1.0),
        )
        for planned in timeline.shots
        for place, anchor in enumerate(planned.shot.anchors)
    ]
    if not found:
        return []
    lines = [
        f"  {field} {anchor.image}: {anchor.at:g} s of the shot = {place.seconds:.3f} s "
        f"= pixel frame {place.pixel_frame} = latent frame {place.frame}"
        for field, anchor, place in found[:10]
    ]
    more = [f"  and {len(found) - 10} more"] if len(found) > 10 else []
    return ["anchors, which Longreel Anchor Frame holds (picture storyboard):", *lines, *more]


def crowded_note(timeline: Timeline) -> list[str]:
    """Return one line when shots stand so close that a single segment sees several of them whole; else nothing. Their
    prompts then act on each other's frames, and a hard switch (blends `cut` and `randomized`) may skip one.
    """
    crowded: list[PlannedShot] = []
    for take in takes_of(timeline.shots):
        length = take[-1].end_frame - take[0].start_frame
        reach = length if length <= timeline.segment_frames else timeline.segment_frames - timeline.overlap_frames
        crowded += [planned for planned in take if len(take) > 1 and planned.latent_frames < reach]
    if not crowded:
        return []
    names = ", ".join(str(planned.index + 1) for planned in crowded[:10]) + ", ..." * (len(crowded) > 10)
    shortest = max(2, min(planned.latent_frames for planned in crowded))
    return [
        f"note: shots {names} are shorter than what a segment of {timeline.segment_frames} latent frames spans, so "
        f"their prompts mix or one is skipped; use segment_frames {timeline.facts.pixel_frames(shortest)}, longer "
        f"shots, or cuts between them"
    ]


def segments_of_shots(timeline: Timeline) -> list[list[int]]:
    """Return for each shot the numbers, from 1, of the segments that follow its prompt, alone or mixed."""
    found: list[list[int]] = [[] for _ in timeline.shots]
    for number, segment in enumerate(timeline.segments, start=1):
        for shot, _ in segment.mix:
            found[shot].append(number)
    return found


def _row(timeline: Timeline, planned: PlannedShot, own: list[int]) -> tuple[str, ...]:
    first, last = timeline.shot_pixel_frames(planned)
    meets = "start" if planned.index == 0 else planned.shot.transition
    if planned.overlap_frames and meets == "blend":
        meets += f" ({planned.overlap_frames} latent frames)"
    prompt = planned.shot.prompt if len(planned.shot.prompt) <= 60 else planned.shot.prompt[:57] + "..."
    return (
        str(planned.index + 1),
        f"{planned.shot.seconds:.3f}",
        f"{(last - first) / timeline.fps:.3f}",
        f"{first}-{last - 1} ({last - first})",
        f"{planned.start_frame}-{planned.end_frame - 1} ({planned.latent_frames})",
        meets,
        f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]),
        prompt,
    )
