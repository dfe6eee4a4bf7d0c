"""Schedule the learning rates: a straight warm-up, then a cosine for the TTT layers and a straight line for all other
weights.

Source: the training configs of One-Minute Video Generation with Test-Time Training (docs/ttt.md, Training), where the
line runs from 1e-5 to 1e-5. Plain floats of a stage and a step; nothing is kept from step to step.
"""

import math

from .stages import Stage
from .student import OTHERS, TTT


def rates_at(stage: Stage, step: int) -> dict[str, float]:
    """Return {TTT: rate, OTHERS: rate} of a step, 0 to stage.steps - 1. The first step of a warm-up is not 0, the last
    step of a stage has its end rates.

    Raises ValueError for a step that the stage does not have.
    """
    if not 0 <= step < stage.steps:
        raise ValueError(
            f"step {step} is asked for and stage {stage.name} has {stage.steps}, counted from 0; use 0 to "
            f"{stage.steps - 1}"
        )
    if step < stage.warmup_steps:
        share = (step + 1) / stage.warmup_steps
        return {TTT: stage.ttt_rate * share, OTHERS: stage.others_rate * share}
    after = stage.steps - stage.warmup_steps
    passed = (step + 1 - stage.warmup_steps) / after  # (0, 1]
    fallen = (1 - math.cos(math.pi * passed)) / 2
    return {
        TTT: stage.ttt_rate + (stage.ttt_end_rate - stage.ttt_rate) * fallen,
        OTHERS: stage.others_rate + (stage.others_end_rate - stage.others_rate) * passed,
    }
