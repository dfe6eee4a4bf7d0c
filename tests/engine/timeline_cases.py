"""Storyboards and families for the tests of planning: hypothesis strategies and a few fixed facts."""

import math

from hypothesis import strategies as st

from longreel.engine.plan.facts import ModelFacts
from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import TRANSITIONS, Shot, Storyboard

WAN = ModelFacts("Wan", 16, 4, 8, 16, 21, 16.0)
LTXV = ModelFacts("LTXV", 128, 8, 32, 32, 13, 25.0)
FAMILIES = (
    WAN,
    LTXV,
    ModelFacts("CogVideoX", 16, 4, 8, 16, 13, 8.0),
    ModelFacts("Wan 2.2 5B", 48, 4, 16, 32, 31, 24.0),
)

families = st.one_of(
    st.sampled_from(FAMILIES),
    st.builds(
        ModelFacts,
        family=st.just("any"),
        latent_channels=st.just(4),
        temporal_stride=st.integers(1, 8),
        spatial_stride=st.just(8),
        size_multiple=st.just(16),
        native_latent_frames=st.integers(2, 33),
        native_fps=st.just(16.0),
    ),
)


def storyboard(*seconds: float, transition: str = "continue", fps: float = 16.0, **board) -> Storyboard:
    """One shot per number of seconds, all meeting in the same way; 64 x 64 pixels."""
    shots = tuple(Shot(f"shot {i}", s, transition) for i, s in enumerate(seconds))
    return Storyboard(shots, fps=fps, width=64, height=64, **board)


@st.composite
def plans(draw: st.DrawFn) -> Timeline:
    """Any plan that fits: one to eight shots from a single latent frame to four segments."""
    facts = draw(families)
    fps = draw(st.sampled_from([8.0, 16.0, 23.976, 25.0, 30.0]))
    length = draw(st.integers(2, 24))
    frame = facts.temporal_stride / fps  # seconds of one latent frame
    before, shots = math.inf, []
    for index in range(draw(st.integers(1, 8))):
        seconds = frame * draw(st.one_of(st.floats(1, 4), st.floats(1, 4 * length)))
        transition = draw(st.sampled_from(TRANSITIONS))
        overlap = None
        longest = min(seconds, before, frame * (length - 1))
        if transition == "blend" and draw(st.booleans()):
            overlap = draw(st.floats(0.01, 1)) * longest
        shots.append(Shot(f"shot {index}", seconds, transition, overlap))
        before = seconds
    board = Storyboard(tuple(shots), fps=fps, width=64, height=64)
    overlap_frames = draw(st.one_of(st.none(), st.integers(0, length - 1)))
    return plan_timeline(
        board,
        facts,
        segment_frames=length,
        overlap_frames=overlap_frames,
        transition_prompts=draw(st.one_of(st.integers(0, 3), st.integers(0, 16))),
    )
