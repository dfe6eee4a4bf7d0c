"""These settings, plain numbers, are what core's own template for a model sets: a place to start from.

A host (hosts/families/usual.py) fills them in. What is best for a video is not known here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class UsualSettings:
    """This is what one of core's templates sets.

    model: as people know it. template: its file's name without the ending. steps: of all samplers together. cfg: 1 is
    no guidance by a negative prompt. shift: of ModelSamplingSD3, None where the scheduler shifts. sampler, scheduler:
    as core names them. fps: frames per second of the video. besides: what else must be set, or can be.
    """

    model: str
    template: str
    steps: int
    cfg: float
    shift: float | None
    sampler: str
    scheduler: str
    fps: float
    besides: str = ""

    def line(self) -> str:
        """Return the settings as one line of a report."""
        shift = "" if self.shift is None else f"shift {self.shift:g}, "
        besides = f"; {self.besides}" if self.besides else ""
        return (
            f"{self.model} usually: {self.steps} steps, cfg {self.cfg:g}, {shift}{self.sampler}, {self.scheduler}, "
            f"{self.fps:g} fps{besides} (core's template {self.template})"
        )
