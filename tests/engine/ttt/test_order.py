"""engine/ttt/order.py: every token once, in the paper's order, in slabs of any size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.ttt.order import (
    Layout,
    chunks_of_last_tokens,
    even_layout,
    own_frames,
    pass_runs,
    scan_runs,
    slabs,
)
from tests.engine.ttt_cases import THREE_SEGMENTS, layouts, tokens

relaxed = settings(max_examples=60, deadline=None)
directions = st.booleans()


@relaxed
@given(layouts(), directions)
def test_every_token_is_read_once(layout, backwards):
    everything = list(range(layout.tokens))
    assert sorted(tokens(scan_runs(layout, backwards))) == everything
    assert sorted(tokens(pass_runs(layout, backwards))) == everything


@relaxed
@given(layouts(), directions)
def test_an_entry_is_a_place_in_the_input_of_the_pass(layout, backwards):
    entered = tokens(pass_runs(layout, backwards))
    for run in scan_runs(layout, backwards) + pass_runs(layout, backwards):
        assert entered[run.entry : run.entry + len(run)] == tokens([run])


@relaxed
@given(layouts())
def test_turned_round_twice_is_where_it_began(layout):
    turned = tokens(pass_runs(layout, backwards=True))
    segments = layout.text_lengths[::-1]
    again = tokens(pass_runs(Layout(segments, layout.windows, layout.height, layout.width), backwards=True))
    assert [turned[token] for token in again] == list(range(layout.tokens))
    assert tokens(pass_runs(layout)) == list(range(layout.tokens))


def test_text_and_frames_alternate_and_a_shared_frame_belongs_to_the_segment_read_first():
    layout = Layout(
        text_lengths=(2, 1), windows=((0, 2), (1, 3)), height=1, width=2
    )  # texts 0 1 | 2, frames 3 4, 5 6, 7 8
    assert tokens(scan_runs(layout)) == [0, 1, 3, 4, 5, 6, 2, 7, 8]
    assert tokens(scan_runs(layout, backwards=True)) == [2, 8, 7, 6, 5, 0, 1, 4, 3]
    assert own_frames(layout) == [(0, 2), (2, 3)]
    assert own_frames(layout, backwards=True) == [(0, 1), (1, 3)]


def test_one_segment_reads_its_text_and_then_its_video():
    layout = even_layout(text_tokens=2, segments=1, frames=2, height=1, width=2)
    assert tokens(scan_runs(layout)) == [0, 1, 2, 3, 4, 5]
    assert tokens(scan_runs(layout, backwards=True)) == [0, 1, 5, 4, 3, 2]


@pytest.mark.parametrize(
    ("frames", "segments", "text", "length", "chunks"),
    [
        (13, 1, 498, 18048, 282),
        (37, 3, 502, 51456, 804),
        (73, 6, 471, 101376, 1584),
        (121, 10, 497, 168320, 2630),
        (253, 21, 458, 351168, 5487),
    ],
)
def test_the_papers_five_stages(frames, segments, text, length, chunks):
    layout = even_layout(text, segments, frames, height=30, width=45)
    assert layout.tokens == length and length % 64 == 0
    assert len(chunks_of_last_tokens(layout, False, 64)) == chunks
    assert [stop - start for start, stop in layout.windows] == [13] * segments
    forwards, backwards = ([stop - start for start, stop in own_frames(layout, b)] for b in (False, True))
    assert forwards == [13] + [12] * (segments - 1)
    assert backwards == forwards[::-1]


@relaxed
@given(layouts(), directions, st.integers(1, 40))
def test_slabs_are_the_scan_cut_into_pieces(layout, backwards, size):
    pieces = list(slabs(layout, backwards, size))
    assert [token for slab in pieces for token in tokens(slab.runs)] == tokens(scan_runs(layout, backwards))
    assert [slab.first for slab in pieces] == list(range(0, layout.tokens, size))
    assert all(len(slab) == size for slab in pieces[:-1])


@relaxed
@given(layouts(), directions, st.integers(1, 40))
def test_a_slab_holds_its_tokens_in_few_ascending_ranges(layout, backwards, size):
    for slab in slabs(layout, backwards, size):
        held = [token for start, stop in slab.ranges for token in range(start, stop)]
        assert held == sorted(tokens(slab.runs))
        assert [slab.place(token) for token in held] == list(range(len(slab)))
        assert all(stop < start for (_, stop), (start, _) in zip(slab.ranges, slab.ranges[1:], strict=False))


def test_the_whole_scan_in_one_slab_is_one_range():
    for backwards in (False, True):
        (slab,) = slabs(THREE_SEGMENTS, backwards)
        assert slab.ranges == ((0, THREE_SEGMENTS.tokens),)


def test_a_token_outside_a_slab_has_no_place_in_it():
    first = next(slabs(THREE_SEGMENTS, False, 4))
    with pytest.raises(ValueError, match="token 36 is not in the slab"):
        first.place(36)


@relaxed
@given(layouts(), directions, st.integers(1, 9))
def test_a_chunk_points_to_the_input_chunk_of_its_last_token(layout, backwards, chunk):
    scan, entered = tokens(scan_runs(layout, backwards)), tokens(pass_runs(layout, backwards))
    lasts = [scan[min(first + chunk, layout.tokens) - 1] for first in range(0, layout.tokens, chunk)]
    assert chunks_of_last_tokens(layout, backwards, chunk) == [entered.index(last) // chunk for last in lasts]


@pytest.mark.parametrize("backwards", [False, True])
def test_where_all_parts_are_multiples_of_the_chunk_no_token_leaves_its_chunk(backwards):
    layout = even_layout(text_tokens=4, segments=2, frames=5, height=2, width=2)
    scan, entered = tokens(scan_runs(layout, backwards)), tokens(pass_runs(layout, backwards))
    for number, source in enumerate(chunks_of_last_tokens(layout, backwards, 4)):
        assert scan[4 * number : 4 * number + 4] == entered[4 * source : 4 * source + 4]


@pytest.mark.parametrize(
    ("text", "windows", "says"),
    [
        ((1,), ((0, 2), (1, 3)), "1 texts for 2 segments"),
        ((), (), "0 texts for 0 segments"),
        ((1,), ((1, 3),), "segment 0 sees frames 1 to 3"),
        ((1, 1), ((0, 2), (3, 5)), "segment 1 sees frames 3 to 5, the one before 0 to 2"),
        ((1, 1), ((0, 3), (1, 3)), "segment 1 sees frames 1 to 3, the one before 0 to 3"),
        ((1, 1), ((0, 3), (0, 5)), "segment 1 sees frames 0 to 5, the one before 0 to 3"),
        ((1,), ((0, 0),), "segment 0 sees frames 0 to 0"),
    ],
)
def test_windows_that_do_not_cover_the_video_in_order_are_refused(text, windows, says):
    with pytest.raises(ValueError, match=says):
        Layout(text, windows, 2, 2)
