"""engine/plan/facts.py: frames and latent frames of a family, and what it cannot make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.timeline_cases import LTXV, WAN, families


@given(families, st.integers(1, 10_000))
def test_latent_frames_and_pixel_frames_are_each_others_inverse(facts, latent_frames):
    assert facts.latent_frames(facts.pixel_frames(latent_frames)) == latent_frames
    assert facts.nearest_latent_frames(facts.pixel_frames(latent_frames)) == latent_frames
    assert facts.first_pixel_frame(latent_frames) == facts.pixel_frames(latent_frames)


@given(families, st.floats(0, 100_000))
def test_the_nearest_length_is_at_most_half_a_latent_frame_away(facts, pixel_frames):
    nearest = facts.pixel_frames(facts.nearest_latent_frames(pixel_frames))
    assert abs(nearest - max(1, pixel_frames)) <= facts.temporal_stride / 2 + 1e-6


@given(families, st.integers(-5, 10_000))
def test_only_whole_latent_frames_are_accepted(facts, pixel_frames):
    if pixel_frames >= 1 and (pixel_frames - 1) % facts.temporal_stride == 0:
        assert facts.pixel_frames(facts.latent_frames(pixel_frames)) == pixel_frames
    else:
        with pytest.raises(ValueError, match=f"^{pixel_frames} pixel frames is not {facts.temporal_stride}n"):
            facts.latent_frames(pixel_frames)


@pytest.mark.parametrize(
    ("facts", "frames", "message"),
    [
        (WAN, 80, "80 pixel frames is not 4n+1 for Wan; use 77 or 81"),
        (WAN, 2, "2 pixel frames is not 4n+1 for Wan; use 1 or 5"),
        (WAN, 0, "0 pixel frames is not 4n+1 for Wan; use 1 or 5"),
        (LTXV, 81 + 4, "85 pixel frames is not 8n+1 for LTXV; use 81 or 89"),
    ],
)
def test_a_length_that_the_family_cannot_make_is_refused_with_its_neighbours(facts, frames, message):
    with pytest.raises(ValueError) as caught:
        facts.latent_frames(frames)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("facts", "size", "message"),
    [
        (WAN, (100, 64), "width 100 is not a multiple of 16 for Wan; use 96 or 112"),
        (WAN, (64, 8), "height 8 is not a multiple of 16 for Wan; use 16 or 32"),
        (LTXV, (64, 48), "height 48 is not a multiple of 32 for LTXV; use 32 or 64"),
    ],
)
def test_a_size_off_the_grid_is_refused_with_its_neighbours(facts, size, message):
    with pytest.raises(ValueError) as caught:
        facts.check_size(*size)
    assert str(caught.value) == message


@given(families, st.integers(1, 20000), st.integers(1, 20000))
def test_a_size_is_rounded_to_the_nearest_that_the_family_can_make(facts, width, height):
    found = facts.nearest_size(width, height)
    facts.check_size(*found)
    for asked, gets in zip((width, height), found, strict=True):
        assert abs(asked - gets) <= facts.size_multiple / 2 or gets == facts.size_multiple


def test_half_and_full_hd_get_the_sizes_that_people_know():
    assert WAN.nearest_size(960, 540) == (960, 544) and WAN.nearest_size(1920, 1080) == (1920, 1088)


@given(families, st.integers(1, 100), st.integers(1, 100))
def test_every_size_on_the_grid_is_accepted(facts, columns, rows):
    facts.check_size(columns * facts.size_multiple, rows * facts.size_multiple)
