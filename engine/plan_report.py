"""The dry run as text: what each shot becomes, every rounding, how often the network runs and what it needs.

Plain strings from a Timeline; the memory figures are handed in by whoever knows the model.
"""

from .timeline import PlannedShot, Timeline


def network_evaluations(timeline: Timeline, steps: int, guidance: bool) -> int:
    """Segments shown to the network in one run of a sampler with one evaluation per step; guidance shows each twice."""
    return len(timeline.segments) * steps * (2 if guidance else 1)


def plan_report(timeline: Timeline, steps: int, guidance: bool, segment_bytes: int, latent_bytes: int) -> str:
    """A table shot -> seconds -> pixel frames -> latent frames -> segments, then the totals."""
    header = ("shot", "asked s", "gets s", "pixel frames", "latent frames", "meets", "segments", "prompt")
    own = segments_of_shots(timeline)
    rows = [header] + [_row(timeline, planned, own[planned.index]) for planned in timeline.shots]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header) - 1)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) + "  " + row[-1] for row in rows]
    facts = timeline.facts
    asked = sum(planned.shot.seconds for planned in timeline.shots)
    lines += [
        "",
        f"{facts.family}: {timeline.width} x {timeline.height} pixels, {timeline.fps:g} fps; asked {asked:.3f} s = "
        f"{asked * timeline.fps:.1f} pixel frames, gets {timeline.seconds:.3f} s = {timeline.pixel_frames} pixel frames = "
        f"{timeline.latent_frames} latent frames ({facts.temporal_stride} pixel frames each, the first one)",
        f"segments: {len(timeline.segments)} of up to {max(s.length for s in timeline.segments)} latent frames, overlap "
        f"{timeline.overlap_frames}, {timeline.transition_prompts} transition prompts per blend; the model was trained "
        f"on {facts.native_latent_frames} latent frames",
        f"network evaluations: {network_evaluations(timeline, steps, guidance)} = {len(timeline.segments)} segments x "
        f"{steps} steps x {2 if guidance else 1} prompts ({'with' if guidance else 'without'} guidance; samplers that "
        f"evaluate twice per step double it)",
        f"memory while sampling, estimated: {_megabytes(segment_bytes)} for one segment (the same for any length of "
        f"video) + {_megabytes(latent_bytes)} for the latent + the model itself",
    ]
    return "\n".join(lines)


def segments_of_shots(timeline: Timeline) -> list[list[int]]:
    """For each shot the numbers, from 1, of the segments that hear its prompt, alone or mixed."""
    found: list[list[int]] = [[] for _ in timeline.shots]
    for number, segment in enumerate(timeline.segments, start=1):
        for shot, _ in segment.mix:
            found[shot].append(number)
    return found


def _row(timeline: Timeline, planned: PlannedShot, own: list[int]) -> tuple[str, ...]:
    first, last = timeline.shot_pixel_frames(planned)
    meets = "start" if planned.index == 0 else planned.shot.transition
    if planned.overlap and meets == "blend":
        meets += f" ({planned.overlap} latent frames)"
    prompt = planned.shot.prompt if len(planned.shot.prompt) <= 60 else planned.shot.prompt[:57] + "..."
    return (str(planned.index + 1), f"{planned.shot.seconds:.3f}", f"{(last - first) / timeline.fps:.3f}",
            f"{first}-{last - 1} ({last - first})", f"{planned.start}-{planned.end - 1} ({planned.latent_frames})", meets,
            f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]), prompt)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
