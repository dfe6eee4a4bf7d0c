"""Say which pixel frames of a timeline each transition takes part in, not its planned boundary alone.

Where shots blend, the frames between them are made by several segments (engine/plan/timeline.py): with transition
prompts the change of scene lies in segments whose prompt lies between two shots, and what breaks there breaks five to
ten frames behind the boundary. A measure that looks at the boundary alone takes it for the shots themselves. So a
transition's reach runs from the first latent frame of its first transition segment to the last one of its last; without
transition prompts it is what the two shots' own segments share. One latent frame more on each side belongs to it: there
a segment's weight ends, and the VAE's decoder mixes neighbours.

It does not know what the video shows, and ints are all it returns.
"""

from dataclasses import dataclass

from .timeline import Segment, Timeline

MARGIN = 1  # latent frames on each side: see above


@dataclass(frozen=True)
class TransitionReach:
    """This is one joint of two shots: the pixel frames [start, stop) that it takes part in, and the planned `boundary`,
    the first pixel frame of the later shot. A cut reaches no frame: both ends are its boundary.
    """

    later_shot: int  # index from 0
    boundary: int
    start: int
    stop: int

    @property
    def is_cut(self) -> bool:
        return self.start == self.stop


def transition_reaches(timeline: Timeline) -> list[TransitionReach]:
    """Return the reach of every joint of a timeline, in order: one less than there are shots."""
    pure: dict[int, list[Segment]] = {shot.index: [] for shot in timeline.shots}
    mixed: dict[int, list[Segment]] = {shot.index: [] for shot in timeline.shots}  # by the later shot
    for segment in timeline.segments:
        by_shot = pure if len(segment.mix) == 1 else mixed
        by_shot[max(index for index, _ in segment.mix)].append(segment)
    pixel = timeline.facts.first_pixel_frame
    reaches = []
    for earlier, later in zip(timeline.shots, timeline.shots[1:], strict=False):
        boundary = later.start_frame
        if later.shot.transition == "cut":
            reaches.append(TransitionReach(later.index, pixel(boundary), pixel(boundary), pixel(boundary)))
            continue
        if between := mixed[later.index]:
            start, stop = min(s.start_frame for s in between), max(s.end_frame for s in between)
        else:
            start = min([boundary, *(s.start_frame for s in pure[later.index])])
            stop = max([boundary, *(s.end_frame for s in pure[earlier.index])])
        start, stop = max(0, min(start, boundary) - MARGIN), min(timeline.latent_frames, max(stop, boundary) + MARGIN)
        reaches.append(TransitionReach(later.index, pixel(boundary), pixel(start), pixel(stop)))
    return reaches
