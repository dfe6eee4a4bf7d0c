"""engine/sampling/latent_blend.py: weights of the four blends, cuts, and the weighted mean they serve."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.sampling.latent_blend import (
    BLENDS,
    blend_predictions,
    ditctrl_layout,
    draw_cuts,
    overlaps_of,
    ramp_weights,
    randomized_blend,
    segment_weights,
    switch_weights,
    take_over_frames,
    triangle_weights,
)

relaxed = settings(max_examples=60, deadline=None)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Starts and lengths of equally long segments without gaps."""
    length = draw(st.integers(1, 20))
    steps = draw(st.lists(st.integers(0, length), max_size=6))
    starts = [0]
    for step in steps:
        starts.append(starts[-1] + step)
    return starts, [length] * len(starts)


def normalised(starts: list[int], weights: list[torch.Tensor], total: int) -> torch.Tensor:
    """[segments, frames]: each segment's share of each frame."""
    table = torch.zeros(len(starts), total, dtype=torch.float64)
    for row, start, weight in zip(table, starts, weights, strict=True):
        row[start : start + len(weight)] = weight.double()
    return table / table.sum(0)


@relaxed
@given(rows(), st.sampled_from(BLENDS), st.integers(0, 2**64 - 1), st.integers(0, 1000))
def test_blend_weights_sum_to_one(row, blend, seed, evaluation):
    starts, lengths = row
    weights = segment_weights(blend, starts, lengths, seed, evaluation)
    assert [len(w) for w in weights] == lengths
    assert all((w >= 0).all() and (w <= 1).all() for w in weights)
    shares = normalised(starts, weights, starts[-1] + lengths[-1])
    torch.testing.assert_close(shares.sum(0), torch.ones_like(shares[0]))


@relaxed
@given(st.integers(1, 64))
def test_triangle_weights_are_the_formula(length):
    expected = [min((2 * i + 1) / length, 2 - (2 * i + 1) / length) for i in range(length)]
    weights = triangle_weights(length)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(weights, weights.flip(0))
    assert (weights > 0).all()


@relaxed
@given(st.integers(2, 40), st.data())
def test_linear_is_symmetric_and_sums_to_one_over_an_overlap(length, data):
    before, after = data.draw(st.integers(0, length // 2)), data.draw(st.integers(0, length // 2))
    torch.testing.assert_close(ramp_weights(length, before, after), ramp_weights(length, after, before).flip(0))
    first, second = segment_weights("linear", [0, length - after], [length, length])
    torch.testing.assert_close(first[length - after :] + second[:after], torch.ones(after))
    assert (first[: length - after] == 1).all() and (second[after:] == 1).all()
    assert (first[length - after :].diff() < 0).all() and (second[:after].diff() > 0).all()


@relaxed
@given(rows(), st.sampled_from(["cut", "randomized"]), st.integers(0, 99), st.integers(0, 99))
def test_a_hard_switch_gives_every_frame_to_one_segment_in_their_order(row, blend, seed, evaluation):
    starts, lengths = row
    shares = normalised(starts, segment_weights(blend, starts, lengths, seed, evaluation), starts[-1] + lengths[-1])
    owners = shares.argmax(0).tolist()
    assert (shares.amax(0) == 1).all() and owners == sorted(owners)


def test_cut_switches_in_the_middle_of_the_overlap():
    first, second = segment_weights("cut", [0, 6], [10, 10])
    assert first.tolist() == [1] * 8 + [0] * 2
    assert second.tolist() == [0] * 2 + [1] * 8


@relaxed
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 5000))
def test_cuts_lie_in_the_overlap_and_repeat_with_the_seed(overlaps, seed, evaluation):
    cuts = draw_cuts(overlaps, seed, evaluation)
    assert len(cuts) == len(overlaps)
    assert all(0 <= cut <= overlap for cut, overlap in zip(cuts, overlaps, strict=True))
    assert draw_cuts(overlaps, seed, evaluation) == cuts


def test_cuts_reach_both_ends_and_change_with_seed_and_evaluation():
    drawn = [draw_cuts([4], seed=3, evaluation=e)[0] for e in range(200)]
    assert set(drawn) == {0, 1, 2, 3, 4}
    assert min(drawn.count(cut) for cut in range(5)) >= 20  # uniform: 40 expected
    assert drawn != [draw_cuts([4], seed=4, evaluation=e)[0] for e in range(200)]


def test_overlaps_are_shared_frames_and_never_negative():
    assert overlaps_of([0, 7, 20, 21], [13, 13, 13, 13]) == [6, 0, 12]
    assert overlaps_of([0, 15], [13, 13]) == [0]


def test_a_segment_never_takes_over_before_its_predecessor():
    assert take_over_frames([0, 2, 3], [9, 0]) == [0, 11, 11]
    weights = switch_weights([0, 2, 3], [12, 12, 12], [9, 0])
    assert weights[1].sum() == 0 and weights[2].tolist() == [0] * 8 + [1] * 4


@relaxed
@given(rows(), st.sampled_from(BLENDS), st.integers(-2, 1))
def test_the_blend_is_the_weighted_mean_of_each_frame(row, blend, dim):
    starts, lengths = row
    total = starts[-1] + lengths[-1]
    generator = torch.Generator().manual_seed(total)
    values = [torch.randn(length, 3, generator=generator, dtype=torch.float64) for length in lengths]
    weights = segment_weights(blend, starts, lengths, seed=1)
    axis = dim % 2
    chunks = [value.movedim(0, axis) for value in values]
    got = blend_predictions(chunks, starts, weights, total, dim).movedim(axis, 0)
    shares = normalised(starts, weights, total)
    for frame in range(total):
        expected = sum(
            shares[k, frame] * values[k][frame - start]
            for k, start in enumerate(starts)
            if start <= frame < start + lengths[k]
        )
        torch.testing.assert_close(got[frame], expected, atol=1e-6, rtol=1e-6)


def test_equal_predictions_pass_through_every_blend():
    video = torch.randn(2, 27, 3, generator=torch.Generator().manual_seed(0))
    starts = [0, 7, 14]
    for blend in BLENDS:
        weights = segment_weights(blend, starts, [13] * 3, seed=5)
        got = blend_predictions([video[:, s : s + 13] for s in starts], starts, weights, 27, dim=1)
        torch.testing.assert_close(got, video)


def test_a_frame_without_a_segment_is_refused():
    with pytest.raises(
        ValueError, match="^no segment covers latent frame 4 of 9; lengthen the segments or the overlap$"
    ):
        blend_predictions([torch.zeros(4), torch.zeros(4)], [0, 5], [torch.ones(4)] * 2, 9)


def test_an_unknown_blend_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="^unknown blend 'fade'; use one of triangle, randomized, linear, cut$"):
        segment_weights("fade", [0], [4])


def test_randomized_blend_averages_no_frame():
    chunks = [torch.full((5,), float(k)) for k in range(3)]
    assert randomized_blend(chunks, [0, 3, 6], [1, 2]).tolist() == [0] * 4 + [1] * 4 + [2] * 3


@pytest.mark.parametrize(
    ("prompts", "length", "overlap", "between", "repeat", "starts", "base"),
    [
        (2, 13, 6, 1, 0, (0, 7, 14), (0, 14)),
        (3, 13, 6, 1, 1, (0, 7, 14, 21, 28, 35), (0, 14, 35)),
        (1, 13, 6, 4, 0, (0,), (0,)),
    ],
)
def test_ditctrl_layout(prompts, length, overlap, between, repeat, starts, base):
    layout = ditctrl_layout(prompts, length, overlap, between, repeat)
    assert (layout.starts, layout.base_starts, layout.total_frames) == (starts, base, starts[-1] + length)
    assert all(sum(share for _, share in mix) == pytest.approx(1) for mix in layout.mixes)
    assert len(layout.mixes) == len(starts)
