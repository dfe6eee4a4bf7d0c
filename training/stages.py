"""Write the recipe as data: stage by stage longer videos, each stage going on from the weights of the one before.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3.3) and the training configs of
its public code (docs/ttt.md, Training), where a segment is three seconds. What a stage does with these numbers is in
training/schedule.py and training/trainer.py. The public documents contradict each other on the first stage of the
linear layers (all weights, or attention alone); the configs are followed here.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from ..engine.ttt.layer import LACT, LINEAR, MLP

LAYERS, QKVO, ALL = "ttt", "qkvo", "sft"  # TTT layers alone; and attention's projections and q, k norms; and the rest
ADAPTERS = (LAYERS, QKVO, ALL)


@dataclass(frozen=True)
class Stage:
    """This is one stage. name: of the stage, unlike the others'. segments: of each video. steps: of the optimiser,
    warmup_steps of them with a rising learning rate. batch: videos for each step, all processes together.

    ttt_rate, ttt_end_rate: learning rate of the TTT layers and gates, falling as a cosine. others_rate,
    others_end_rate: of the other weights, falling as a line. adapter: what trains, one of ADAPTERS; LAYERS is not in
    the paper.

    scan_chunks: chunks of a TTT scan between two states that are kept for the gradients; memory grows with the number
    of kept states, time with what is recomputed; 0 keeps all. checkpoint_blocks: keep of each transformer block its
    input alone.

    Raises ValueError that names the field for numbers out of range.
    """

    name: str
    segments: int
    steps: int
    warmup_steps: int = 0
    ttt_rate: float = 1e-5
    ttt_end_rate: float = 1e-5
    others_rate: float = 1e-5
    others_end_rate: float = 1e-5
    adapter: str = QKVO
    batch: int = 64
    scan_chunks: int = 16
    checkpoint_blocks: bool = True

    def __post_init__(self) -> None:
        for field in ("segments", "steps", "batch"):
            if getattr(self, field) < 1:
                raise ValueError(f"stage {self.name}: {field} is {getattr(self, field)}; use 1 or more")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(
                f"stage {self.name}: warmup_steps is {self.warmup_steps} and the stage has {self.steps} "
                f"steps; use 0 to {self.steps}"
            )
        for field in ("ttt_rate", "ttt_end_rate", "others_rate", "others_end_rate"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(
                    f"stage {self.name}: {field} is {getattr(self, field):g}; use 0 or more, 1e-5 as published"
                )
        if self.adapter not in ADAPTERS:
            raise ValueError(f"stage {self.name}: adapter is {self.adapter!r}; use {', '.join(ADAPTERS)}")
        if self.scan_chunks < 0:
            raise ValueError(f"stage {self.name}: scan_chunks is {self.scan_chunks}; use 16, or 0 to keep all states")


PAPER = {
    MLP: (
        Stage("3s", 1, 5000, 100, ttt_rate=1e-4, adapter=ALL),
        Stage("9s", 3, 5000, 100),
        Stage("18s", 6, 1000, 50),
        Stage("30s", 10, 1000, 50),
        Stage("63s", 21, 250, 25),
    ),
    LINEAR: (
        Stage("3s", 1, 5000, 100, ttt_rate=1e-4, scan_chunks=4),
        Stage("9s", 3, 5000, 100),
        Stage("18s", 6, 1000, 50),
        Stage("30s", 10, 500, 50),
        Stage("63s", 21, 250, 25),
    ),
}
PAPER[LACT] = PAPER[MLP]  # its own paper has one stage, for an autoregressive model


def one_stage(
    segments: int, steps: int, warmup_steps: int, rate: float, end_rate: float, adapter: str, **changes: Any
) -> Stage:
    """Return a stage that is not one of the paper's, with the warm-up cut to the steps and other weights at the end
    rate.

    changes: fields of the stage. Raises ValueError as Stage does.
    """
    return Stage(
        f"{segments} segments",
        segments,
        steps,
        min(warmup_steps, steps),
        ttt_rate=rate,
        ttt_end_rate=end_rate,
        others_rate=end_rate,
        others_end_rate=end_rate,
        adapter=adapter,
        **changes,
    )


def scaled(
    stages: tuple[Stage, ...], steps_share: float = 1.0, last: str | None = None, **changes: Any
) -> tuple[Stage, ...]:
    """Return smaller stages for a smaller model: steps and warm-up times `steps_share` (at least one step), up to the
    stage named `last`, and in every stage the fields of `changes`.

    Raises ValueError for a share that is not above 0, a `last` that is none of the stages, and as Stage does.
    """
    if not 0 < steps_share < math.inf:
        raise ValueError(f"steps_share is {steps_share:g}, not above 0; use 1 for the recipe's own steps")
    names = [stage.name for stage in stages]
    if last is not None and last not in names:
        raise ValueError(f"the last stage is {last!r}; use {', '.join(names)}")
    wanted = stages if last is None else stages[: names.index(last) + 1]
    return tuple(
        replace(
            stage,
            **{
                "steps": max(1, round(stage.steps * steps_share)),
                "warmup_steps": round(stage.warmup_steps * steps_share),
                **changes,
            },
        )
        for stage in wanted
    )
