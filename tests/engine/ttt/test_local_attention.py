"""engine/ttt/local_attention.py: dense attention under the segments' masks, with the mean where segments overlap."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from longreel.engine.attention.rotary import grid_angles, rotate_pairs
from longreel.engine.ttt.local_attention import attend_locally, evaluate_segments, segment_of
from longreel.engine.ttt.order import Layout, even_layout
from tests.engine.ttt_cases import layouts

relaxed = settings(max_examples=40, deadline=None)
HEADS, CHANNELS = 2, 16


def attend(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def rows_of(layout: Layout, batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, HEADS, layout.tokens, CHANNELS, generator=generator) for _ in range(3))


def seen_by(layout: Layout, segment: int) -> torch.Tensor:
    """[L], True at a segment's own text and frames."""
    seen = torch.zeros(layout.tokens, dtype=torch.bool)
    seen[slice(*layout.text_of(segment))] = True
    seen[slice(*layout.tokens_of(layout.windows[segment]))] = True
    return seen


def times_seen_by(layout: Layout, segment: int) -> torch.Tensor:
    """[L]: how often a segment's attention looks at each token: at its own once, and at its lead as often as named."""
    times = seen_by(layout, segment).float()
    for frame in layout.leads[segment]:
        times[slice(*layout.tokens_of((frame, frame + 1)))] += 1
    return times


@relaxed
@given(layouts())
def test_it_is_dense_attention_under_the_segments_masks_and_the_mean_of_what_overlaps(layout):
    q, k, v = rows_of(layout)
    total, count = torch.zeros_like(q), torch.zeros(layout.tokens)
    for segment in range(layout.segments):
        own = seen_by(layout, segment)
        mask = times_seen_by(layout, segment).log()[None]  # a key that stands there twice weighs twice as much
        total[:, :, own] += attend(q, k, v, mask)[:, :, own]
        count += own
    torch.testing.assert_close(attend_locally(attend, q, k, v, layout), total / count[:, None], atol=1e-5, rtol=1e-4)


def test_one_segment_is_the_attention_itself_to_the_bit():
    layout = even_layout(text_tokens=3, segments=1, frames=4, height=2, width=2)
    q, k, v = rows_of(layout)
    assert torch.equal(attend_locally(attend, q, k, v, layout, time_shift=pytest.fail), attend(q, k, v, None))


def test_nothing_crosses_from_segment_to_segment():
    layout = even_layout(text_tokens=2, segments=3, frames=7, height=1, width=2)
    q, k, v = rows_of(layout)
    before = attend_locally(attend, q, k, v, layout)
    last = seen_by(layout, 2) & ~seen_by(layout, 1)
    k[:, :, last], v[:, :, last] = 3.0, 3.0
    after = attend_locally(attend, q, k, v, layout)
    outside = ~seen_by(layout, 2)
    assert torch.equal(before[:, :, outside], after[:, :, outside])
    assert not torch.equal(before[:, :, ~outside], after[:, :, ~outside])


def test_a_lead_is_looked_at_and_stays_what_its_own_segment_makes_of_it():
    plain = even_layout(text_tokens=2, segments=3, frames=7, height=1, width=2)
    led = replace(plain, leads=((), (1,), (4, 4)))
    q, k, v = rows_of(plain)
    before, after = (attend_locally(attend, q, k, v, layout) for layout in (plain, led))
    of_first = seen_by(plain, 0) & ~seen_by(plain, 1)
    assert torch.equal(before[:, :, of_first], after[:, :, of_first])
    assert (before - after)[:, :, ~of_first].abs().amax(dim=(0, 1, 3)).min() > 1e-4


def test_leads_must_be_frames_that_there_are_and_one_for_each_segment():
    windows = ((0, 3), (2, 5))
    for leads, says in (
        (((), (5,)), r"frames \[5\] outside of 5"),
        (((), (-1,)), r"\[-1\]"),
        (((1,),), "1 leads for 2"),
    ):
        with pytest.raises(ValueError, match=says):
            Layout((0, 0), windows, 1, 1, leads)
    assert Layout((0, 0), windows, 1, 1, ((), (1,))).seen_by(1) == ((1, 5),)
    assert Layout((0, 0), windows, 1, 1, ((), (2,))).seen_by(1) == ((2, 3), (2, 5))
    assert Layout((0, 0), windows, 1, 1).seen_by(1) == ((2, 5),)


def test_shared_frames_are_averaged_and_all_others_copied():
    layout = Layout(text_lengths=(1, 1, 1), windows=((0, 3), (1, 4), (2, 6)), height=1, width=1)
    out = evaluate_segments(
        lambda segment: torch.full((1, 1 + [3, 3, 4][segment], 1), 10.0**segment),
        layout,
        torch.full((1, layout.tokens, 1), torch.nan),
    )
    expected = [1, 10, 100, 1, 11 / 2, 111 / 3, 110 / 2, 100, 100]
    torch.testing.assert_close(out.flatten(), torch.tensor(expected, dtype=torch.float32))


def test_what_is_cut_out_and_put_back_is_unchanged():
    layout = even_layout(text_tokens=2, segments=3, frames=7, height=2, width=1)
    x = torch.randn(2, layout.tokens, 5)
    for leads in ((), ((), (1,), (0, 6))):
        led = replace(layout, leads=leads)
        put_back = evaluate_segments(
            lambda segment, led=led: torch.cat(segment_of(x, led, segment), dim=1), led, torch.empty_like(x)
        )
        assert torch.equal(put_back, x)


def test_positions_in_time_begin_anew_in_every_segment():
    layout = even_layout(text_tokens=2, segments=3, frames=7, height=2, width=2)
    q, k, v = rows_of(layout)

    def rotated(x: torch.Tensor, frames: int) -> torch.Tensor:
        text, video = x.split([x.shape[2] - frames * layout.frame_tokens, frames * layout.frame_tokens], dim=2)
        angles = grid_angles(torch.arange(video.shape[2]), layout.height, layout.width, CHANNELS)
        return torch.cat([text, rotate_pairs(video, angles)], dim=2)

    def time_shift(x: torch.Tensor, frames: int) -> torch.Tensor:
        tokens = torch.full((x.shape[2],), frames)[:, None]
        return rotate_pairs(
            x, tokens * grid_angles(torch.tensor([layout.frame_tokens]), layout.height, layout.width, CHANNELS)
        )

    def alone(segment: int) -> torch.Tensor:
        q_own, k_own, v_own = (torch.cat(segment_of(x, layout, segment, dim=2), dim=2) for x in (q, k, v))
        return attend(rotated(q_own, 3), rotated(k_own, 3), v_own, None)

    got = attend_locally(attend, rotated(q, 7), rotated(k, 7), v, layout, time_shift)
    expected = evaluate_segments(alone, layout, torch.empty_like(q), dim=2)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    unturned = attend_locally(attend, rotated(q, 7), rotated(k, 7), v, layout)
    assert not torch.allclose(unturned, expected, atol=1e-2)


def test_gradients_reach_queries_keys_and_values():
    layout = even_layout(text_tokens=2, segments=2, frames=5, height=1, width=2)
    rows = [x.requires_grad_() for x in rows_of(layout)]
    attend_locally(attend, *rows, layout).square().sum().backward()
    assert all(x.grad.abs().amax(-1).min() > 0 for x in rows)
