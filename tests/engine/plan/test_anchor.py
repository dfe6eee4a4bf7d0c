"""engine/plan/anchor.py: second -> pixel frame -> latent frame, modes, and what is refused."""

from dataclasses import replace

import pytest

from longreel.engine.plan.anchor import (
    AUTO,
    CLEAN,
    INPAINT,
    check_anchors,
    choose_mode,
    describe,
    of_length,
    place_anchor,
    place_in_shot,
)
from longreel.engine.plan.facts import ModelFacts
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard

WAN = ModelFacts("Wan", 16, 4, 8, 16, 21, 16.0)
WAN_5B = replace(WAN, family="Wan 2.2 5B", knows_frame_times=True)
COG_15 = replace(WAN, family="CogVideoX 1.5", patch_frames=2)
LTXV = replace(WAN, family="LTXV", temporal_stride=8, knows_frame_times=True)


def at(seconds, facts=WAN, mode=CLEAN, strength=1.0, **options):
    return place_anchor(seconds, 16.0, facts, mode, strength, **options)


@pytest.mark.parametrize(
    ("seconds", "facts", "pixel_frame", "frame"),
    [
        (0.0, WAN, 0, 0),
        (1 / 16, WAN, 1, 1),
        (4 / 16, WAN, 4, 1),
        (5 / 16, WAN, 5, 2),
        (1.0, WAN, 16, 4),
        (2.0, LTXV, 32, 4),
        (33 / 16, LTXV, 33, 5),
    ],
)
def test_a_second_is_the_latent_frame_that_its_pixel_frame_is_decoded_from(seconds, facts, pixel_frame, frame):
    anchor = at(seconds, facts)
    assert (anchor.pixel_frame, anchor.frame, anchor.end) == (pixel_frame, frame, frame + 1)
    assert facts.first_pixel_frame(frame) <= pixel_frame < facts.first_pixel_frame(frame + 1)


def test_a_clean_anchor_fills_the_token_that_reads_two_latent_frames():
    assert (at(0.0, COG_15).frame, at(0.0, COG_15).end) == (0, 2)
    assert (at(1.25, COG_15).frame, at(1.25, COG_15).end) == (4, 6)  # pixel frame 20 is in latent frame 5
    assert (at(1.25, COG_15, INPAINT).frame, at(1.25, COG_15, INPAINT).end) == (5, 6)


def test_a_clip_takes_as_many_latent_frames_as_it_has():
    assert of_length(at(1.0), 3).end == 7
    with pytest.raises(ValueError, match="latent has 3 frames, and the network's tokens have 2 each; use 4 latent"):
        of_length(at(0.0, COG_15), 3)


@pytest.mark.parametrize("seconds", [1.0, 17 / 16, 1.09])
def test_the_end_of_a_video_is_its_last_frame(seconds):
    anchor = at(seconds, latent_frames=5)
    assert (anchor.pixel_frame, anchor.frame, anchor.seconds) == (16, 4, 1.0)


def test_the_end_that_was_asked_for_is_the_last_frame_of_what_it_was_rounded_to():
    board = Storyboard((Shot("a", 1.1),), width=64, height=64)
    assert plan_timeline(board, WAN).pixel_frames == 17  # of 17.6
    assert at(1.1, latent_frames=5, asked_seconds=1.1).pixel_frame == 16
    with pytest.raises(ValueError, match="beyond a video of 17 pixel frames"):
        at(1.2, latent_frames=5, asked_seconds=1.1)


def test_a_time_that_the_video_does_not_have_is_refused():
    assert at(1.0, latent_frames=5).frame == 4
    with pytest.raises(ValueError, match="1.1 s is pixel frame 18, beyond a video of 17 pixel frames; use up to"):
        at(1.1, latent_frames=5)
    with pytest.raises(ValueError, match="an anchor at -1 s of 16 frames per second is nowhere; use 0 s or more"):
        at(-1.0)
    with pytest.raises(ValueError, match="reaches latent frame 4, beyond a video of 4 latent frames"):
        check_anchors([at(1.0)], WAN, 4)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(ValueError, match="strength .* is outside 0 to 1; use 1 to keep it as it is"):
        at(0.0, strength=strength)


def test_two_on_one_latent_frame_are_refused_with_both_times():
    check_anchors([at(1.0), at(1.25), at(0.0)], WAN, 6)
    with pytest.raises(
        ValueError,
        match=r"anchors at 0.8125 s and 1 s \(pixel frames 13 and 16\) stand on the same latent "
        r"frame, 4, which holds 4 pixel frames; move one of them",
    ):
        check_anchors([at(0.8125), at(1.0)], WAN)
    with pytest.raises(ValueError, match="latent frame, 1, which holds 4"):
        check_anchors([at(0.0, COG_15), at(0.25, COG_15, INPAINT)], COG_15)


def test_auto_is_clean_where_times_per_frame_or_anchors_were_learned():
    assert choose_mode(AUTO, WAN_5B, False) == (CLEAN, "Wan 2.2 5B was trained with a time for every frame")
    assert choose_mode(AUTO, WAN, True) == (CLEAN, "an anchor LoRA is on the model")
    mode, reason = choose_mode(AUTO, WAN, False)
    assert mode == INPAINT and "plain Wan has not learned" in reason


def test_what_is_asked_for_is_done_and_said():
    assert choose_mode(CLEAN, WAN, False) == (CLEAN, "as asked for")
    assert choose_mode(INPAINT, WAN, True) == (INPAINT, "as asked for")
    assert "the same as clean in LTXV" in choose_mode(INPAINT, LTXV, False)[1]
    with pytest.raises(ValueError, match='"fvg" is not one of the 3 modes of an anchor; use auto, clean, inpaint'):
        choose_mode("fvg", WAN, False)


def test_a_shots_anchor_counts_from_its_first_frame_and_stays_in_it():
    board = Storyboard((Shot("a", 1.0), Shot("b", 1.0, "cut")), fps=16.0, width=64, height=64)
    timeline = plan_timeline(board, WAN)
    second = timeline.shots[1]
    first, stop = timeline.shot_pixel_frames(second)
    start, end = (place_in_shot(timeline, second, at, CLEAN, 1.0) for at in (0.0, 1.0))
    assert (start.pixel_frame, start.frame) == (first, second.start_frame)
    assert (end.pixel_frame, end.frame) == (stop - 1, second.end_frame - 1)
    assert place_in_shot(timeline, timeline.shots[0], 1.0, CLEAN, 1.0).frame == second.start_frame - 1


def test_the_report_shows_every_step_of_the_mapping():
    said = describe(at(1.0), WAN, "as asked for")
    assert said == (
        "anchor at 1.000 s = pixel frame 16 = latent frame 4 (pixel frames 13-16); mode clean: as asked "
        "for; strength 1; experimental: the method's own place is the first frame"
    )
    assert describe(at(0.0), WAN, "x") == (
        "anchor at 0.000 s = pixel frame 0 = latent frame 0 (pixel frame 0); mode clean: x; strength 1"
    )
    assert "latent frames 0-1 (pixel frames 0-4)" in describe(at(0.0, COG_15), COG_15, "x")
    assert describe(at(0.0, strength=0.0), WAN, "x").endswith("strength 0; not held at all")
