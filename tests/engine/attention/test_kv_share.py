"""engine/attention/kv_share.py: who reads from whom, and what one attention call with shared keys and values is."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.attention.kv_share import (
    ALIGNED,
    BEFORE,
    CHOSEN,
    EXTEND,
    FIRST,
    PREVIOUS,
    REPLACE,
    TRUE,
    Focus,
    KeysValues,
    attend_shared,
    frames_apart,
    plan_sources,
)
from longreel.engine.plan.timeline import Timeline, plan_timeline
from tests.engine.timeline_cases import WAN, plans, storyboard

relaxed = settings(max_examples=40, deadline=None)
HEADS, WIDTH = 2, 4


def timeline(*seconds: float, transition: str = "blend") -> Timeline:
    """With blends and shots of 2 s: one segment for each shot, and one for each transition."""
    return plan_timeline(storyboard(*seconds, transition=transition), WAN, segment_frames=8)


@pytest.mark.parametrize(
    ("source", "chosen", "shots", "sources"),
    [
        (PREVIOUS, 1, (), [None, 0, 1, 2, 3]),
        (PREVIOUS, 1, (2,), [None, 0, 1, None, None]),
        (PREVIOUS, 1, (1, 3), [None, None, None, 2, 3]),
        (FIRST, 3, (), [None, 0, 0, 0, 0]),
        (FIRST, 3, (3,), [None, None, None, 0, 0]),
        (CHOSEN, 1, (), [None, 0, 0, 0, 0]),
        (CHOSEN, 2, (), [None, None, None, 2, 2]),
        (CHOSEN, 1, (2,), [None, 0, 0, None, None]),
    ],
)
def test_a_transition_reads_as_the_later_of_its_shots(source, chosen, shots, sources):
    plan = timeline(2, 2, 2)
    assert [len(segment.mix) for segment in plan.segments] == [1, 2, 1, 2, 1]
    assert plan_sources(plan, source, chosen, shots) == sources


def test_the_later_segments_of_a_shot_read_too():
    plan = timeline(4, 2, transition="continue")
    shots = [segment.main_shot for segment in plan.segments]
    assert shots == [0, 0, 0, 1, 1]
    assert plan_sources(plan, PREVIOUS) == [None, 0, 1, 2, 3]
    assert plan_sources(plan, FIRST) == [None, 0, 0, 0, 0]
    assert plan_sources(plan, CHOSEN, 2) == [None, None, None, None, 3]
    assert plan_sources(plan, FIRST, shots=(1,)) == [None, 0, 0, None, None]


def test_across_cuts_or_within_a_take_alone():
    plan = timeline(2, 4, 2, transition="cut")
    assert [segment.take for segment in plan.segments] == [0, 0, 1, 1, 1, 2]
    assert plan_sources(plan, PREVIOUS) == [None, 0, 1, 2, 3, 4]
    assert plan_sources(plan, PREVIOUS, across_cuts=False) == [None, 0, None, 2, 3, None]
    assert plan_sources(plan, FIRST) == [None, 0, 0, 0, 0, 0]
    assert plan_sources(plan, FIRST, across_cuts=False) == [None, 0, None, None, None, None]


@relaxed
@given(plans(), st.sampled_from([PREVIOUS, FIRST, CHOSEN]), st.booleans(), st.data())
def test_a_source_comes_before_its_readers(plan, source, across_cuts, data):
    chosen = data.draw(st.integers(1, len(plan.shots)))
    try:
        sources = plan_sources(plan, source, chosen, across_cuts=across_cuts)
    except ValueError as error:
        assert "has a source to read from" in str(error)
        return
    assert len(sources) == len(plan.segments)
    shot = {PREVIOUS: None, FIRST: 0, CHOSEN: chosen - 1}[source]
    for reader, at in enumerate(sources):
        if at is not None:
            assert at < reader
            assert across_cuts or plan.segments[at].take == plan.segments[reader].take
            assert shot is None or plan.segments[at].mix == ((shot, 1.0),)


@pytest.mark.parametrize(
    ("source", "chosen", "shots", "message"),
    [
        (CHOSEN, 4, (), "source_shot 4 is not in a timeline of 3 shots; use 1 to 3"),
        (CHOSEN, 0, (), "source_shot 0 is not in a timeline of 3 shots; use 1 to 3"),
        (PREVIOUS, 9, (2, 5), "shots 5 is not in a timeline of 3 shots; use 1 to 3"),
        (
            CHOSEN,
            2,
            (1,),
            "shot 1 would read from shot 2, which does not come before it; use shots 3 to 3, or an earlier",
        ),
        (CHOSEN, 2, (3, 2), "shot 2 would read from shot 2, which does not come before it; use shots 3 to 3"),
        (CHOSEN, 3, (2,), "shot 2 would read from shot 3, the last one; use an earlier source shot"),
        (
            CHOSEN,
            3,
            (),
            r"none of the 5 segments has a source to read from \(3 shots, source chosen 3\); use more shots",
        ),
        (PREVIOUS, 1, (1,), r"none of the 5 segments has a source to read from \(3 shots, source previous\); use more"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(source, chosen, shots, message):
    with pytest.raises(ValueError, match="^" + message):
        plan_sources(timeline(2, 2, 2), source, chosen, shots)


def test_cuts_between_single_segments_leave_nothing_to_share():
    plan = plan_timeline(storyboard(2, 2, transition="cut"), WAN, segment_frames=9)
    with pytest.raises(ValueError, match="^none of the 2 segments .* or allow sharing across cuts$"):
        plan_sources(plan, PREVIOUS, across_cuts=False)


def test_keys_are_moved_to_where_the_source_is_to_stand():
    assert frames_apart(ALIGNED, source_start=0, source_frames=8, reader_start=20) == 0
    assert frames_apart(BEFORE, source_start=0, source_frames=8, reader_start=20) == -8
    assert frames_apart(TRUE, source_start=0, source_frames=8, reader_start=20) == -20
    assert frames_apart(TRUE, source_start=20, source_frames=8, reader_start=17) == 3


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def keys_values(batch: int, text: int, video: int, seed: int, mask: torch.Tensor | None = None) -> KeysValues:
    k, v = randn(2, batch, HEADS, text + video, WIDTH, seed=seed)
    return KeysValues(k, v, mask, text)


def concatenated(*parts: tuple[KeysValues, slice]) -> tuple[torch.Tensor, torch.Tensor]:
    """(k, v) of these tokens of these."""
    return (
        torch.cat([kv.k[:, :, tokens] for kv, tokens in parts], 2),
        torch.cat([kv.v[:, :, tokens] for kv, tokens in parts], 2),
    )


ALL = slice(None)


def parts_read(own: KeysValues, source: KeysValues, join: str, share_text: bool) -> list[tuple[KeysValues, slice]]:
    kept = ALL if join == EXTEND else slice(0 if share_text else own.text_tokens)
    return [(own, kept), (source, ALL if share_text else slice(source.text_tokens, None))]


@pytest.mark.parametrize("join", [REPLACE, EXTEND])
@pytest.mark.parametrize("share_text", [True, False])
@pytest.mark.parametrize(("own_text", "source_text"), [(3, 3), (3, 5), (0, 0)])
def test_queries_read_the_source_instead_of_or_beside_their_own(join, share_text, own_text, source_text):
    own, source = keys_values(2, own_text, 6, seed=1), keys_values(2, source_text, 8, seed=2)
    q = randn(2, HEADS, own_text + 6, WIDTH, seed=3)
    got = attend_shared(attend, q, own, source, join, 1.0, share_text)
    torch.testing.assert_close(got, attend(q, *concatenated(*parts_read(own, source, join, share_text)), None))


def test_strength_goes_from_its_own_attention_to_the_source_s():
    own, source, q = keys_values(1, 2, 6, seed=1), keys_values(1, 2, 6, seed=2), randn(1, HEADS, 8, WIDTH, seed=3)
    alone, shared = attend(q, own.k, own.v, None), attend(q, source.k, source.v, None)
    assert torch.equal(attend_shared(attend, q, own, source, strength=0.0), alone)
    assert torch.equal(attend_shared(attend, q, own, source, strength=1.0), shared)
    torch.testing.assert_close(attend_shared(attend, q, own, source, strength=0.3), 0.7 * alone + 0.3 * shared)


@pytest.mark.parametrize("join", [REPLACE, EXTEND])
@pytest.mark.parametrize("masked", ["own", "source", "both"])
def test_masks_of_the_keys_go_with_their_keys(join, masked):
    """Hidden keys count for nothing, whichever side hides them; a side without a mask hides none."""
    hides = torch.zeros(1, 1, 1, 9)
    hides[..., [1, 5]] = -torch.inf
    own = keys_values(2, 3, 6, seed=1, mask=hides if masked != "source" else None)
    source = keys_values(2, 3, 6, seed=2, mask=hides if masked != "own" else None)
    q = randn(2, HEADS, 9, WIDTH, seed=3)
    visible = [0, 2, 3, 4, 6, 7, 8]
    sides = [own, source] if join == EXTEND else [source]
    seen = [(side, visible if side.mask is not None else ALL) for side in sides]
    torch.testing.assert_close(attend_shared(attend, q, own, source, join), attend(q, *concatenated(*seen), None))


def test_masks_of_the_text_follow_the_choice_of_text():
    hides_own, hides_source = torch.zeros(2, 1, 1, 9), torch.zeros(1, 1, 1, 9)
    hides_own[0, ..., 0] = hides_own[1, ..., 1] = hides_source[..., 2] = -torch.inf
    own, source = keys_values(2, 3, 6, seed=1, mask=hides_own), keys_values(2, 3, 6, seed=2, mask=hides_source)
    q = randn(2, HEADS, 9, WIDTH, seed=3)
    got = attend_shared(attend, q, own, source, share_text=False)
    for row, visible in enumerate(([1, 2], [0, 2])):
        k, v = concatenated((own, visible), (source, slice(3, None)))
        torch.testing.assert_close(got[row], attend(q[row], k[row], v[row], None))


def fused(q, k, v, text: int, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """DiTCtrl as its public code has it, for one row [1, H, S, D]: both sides for all queries under dense masks, then
    picked by the target's mask."""
    sides = []
    for side in (source, ~source):
        bias = torch.zeros(q.shape[2], k.shape[2])
        bias[text:, k.shape[2] - len(source) :] = torch.where(side, 0.0, -torch.inf)
        sides.append(attend(q, k, v, bias if mask is None else bias + mask))
    chosen = torch.cat([torch.zeros(text, dtype=torch.bool), target])[:, None]
    return torch.where(chosen, sides[0], sides[1])


bits = st.lists(st.booleans(), min_size=6, max_size=6)


@relaxed
@given(st.lists(bits, min_size=4, max_size=4), st.sampled_from([REPLACE, EXTEND]), st.booleans(), st.booleans())
def test_focus_is_dense_masked_attention_for_two_videos_of_two_prompts(masks, join, share_text, masked):
    """Rows are prompt by prompt, videos within; every mask is possible, empty ones too."""
    text, videos, rows = 2, 2, 4
    focus = Focus(torch.tensor(masks[:2]), torch.tensor(masks[2:]))
    hides = randn(rows, 1, 1, text + 6, seed=4) if masked else None
    own, source = keys_values(rows, text, 6, seed=1, mask=hides), keys_values(rows, text, 6, seed=2, mask=hides)
    q = randn(rows, HEADS, text + 6, WIDTH, seed=3)
    got = attend_shared(attend, q, own, source, join, 1.0, share_text, focus)
    parts = parts_read(own, source, join, share_text)
    k, v = concatenated(*parts)
    for row in range(rows):
        n = row % videos
        mask = None if hides is None else torch.cat([hides[row, 0, 0, tokens] for _, tokens in parts])
        one = slice(row, row + 1)
        expected = fused(q[one], k[one], v[one], text, focus.source[n], focus.target[n], mask)
        torch.testing.assert_close(got[one], expected)


@pytest.mark.parametrize(("source", "target"), [(True, True), (True, False), (False, True), (False, False)])
def test_where_there_is_nothing_of_its_side_a_query_reads_text_alone(source, target):
    own, kept, q = keys_values(1, 2, 6, seed=1), keys_values(1, 2, 6, seed=2), randn(1, HEADS, 8, WIDTH, seed=3)
    focus = Focus(torch.full((1, 6), source), torch.full((1, 6), target))
    got = attend_shared(attend, q, own, kept, focus=focus)[:, :, 2:]
    tokens = ALL if source == target else slice(2)
    torch.testing.assert_close(got, attend(q[:, :, 2:], kept.k[:, :, tokens], kept.v[:, :, tokens], None))


def test_without_text_a_query_that_has_nothing_of_its_side_reads_all_of_the_source():
    own, source, q = keys_values(1, 0, 6, seed=1), keys_values(1, 0, 6, seed=2), randn(1, HEADS, 6, WIDTH, seed=3)
    focus = Focus(torch.zeros(1, 6, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool))
    torch.testing.assert_close(attend_shared(attend, q, own, source, focus=focus), attend(q, source.k, source.v, None))


def test_a_mask_with_rows_of_its_own_for_each_query_follows_the_focus():
    hides = randn(1, 1, 8, 8, seed=4)
    own, source = keys_values(1, 2, 6, seed=1, mask=hides), keys_values(1, 2, 6, seed=2, mask=hides)
    q = randn(1, HEADS, 8, WIDTH, seed=3)
    sides = torch.tensor([[True, False, True, True, False, False], [False, True, True, False, True, False]])
    got = attend_shared(attend, q, own, source, focus=Focus(sides[:1], sides[1:]))
    torch.testing.assert_close(got, fused(q, source.k, source.v, 2, sides[0], sides[1], hides[0, 0]))


def test_a_focus_evaluates_every_query_once():
    """DiTCtrl's public code attends twice for every query."""
    queries = []

    def counting(q, k, v, mask):
        queries.append(q.shape[2])
        return attend(q, k, v, mask)

    own, source = keys_values(1, 2, 6, seed=1), keys_values(1, 2, 6, seed=2)
    focus = Focus(torch.arange(6)[None] < 2, torch.arange(6)[None] < 3)
    attend_shared(counting, randn(1, HEADS, 8, WIDTH, seed=3), own, source, focus=focus)
    assert sum(queries) == 8


def test_video_tokens_without_a_place_in_the_picture_are_refused():
    own, source = keys_values(1, 2, 7, seed=1), keys_values(1, 2, 7, seed=2)
    focus = Focus(torch.ones(1, 6, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="^7 video tokens, but the picture has 6: .*; use mask off, or a model"):
        attend_shared(attend, randn(1, HEADS, 9, WIDTH, seed=3), own, source, focus=focus)
