"""Plan a timeline from the inputs of Longreel Plan: pixels and pixel frames, where 0 and -1 leave it to the plan.

The node and the dry run of the storyboard editor plan with this one function. Ints only; it knows no ComfyUI.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..storyboard.board import Storyboard
from .facts import ModelFacts
from .timeline import Timeline, plan_timeline


@dataclass(frozen=True, kw_only=True)
class Asked:
    """These are the inputs of Longreel Plan.

    width, height: pixels, 0 takes the storyboard's. segment_frames: pixel frames, 0 leaves it to the plan.
    overlap_frames: pixel frames, -1 leaves it to the plan. transition_prompts: 0 to 16.
    """

    width: int = 0
    height: int = 0
    segment_frames: int = 0
    overlap_frames: int = -1
    transition_prompts: int = 1

    def size(self, storyboard: Storyboard) -> tuple[int, int]:
        """Return width and height in pixels before they are rounded to what a family makes."""
        return self.width or storyboard.width, self.height or storyboard.height


def plan_as_asked(
    storyboard: Storyboard, facts: ModelFacts, asked: Asked, check_interrupt: Callable[[], object]
) -> Timeline:
    """Return the timeline. Raises ValueError as plan_timeline does, and what check_interrupt raises."""
    frames, overlap = asked.segment_frames, asked.overlap_frames
    return plan_timeline(
        storyboard,
        facts,
        width=asked.width or None,
        height=asked.height or None,
        transition_prompts=asked.transition_prompts,
        segment_frames=facts.latent_frames(frames) if frames else None,
        overlap_frames=round(overlap / facts.temporal_stride) if overlap >= 0 else None,
        check_interrupt=check_interrupt,
    )
