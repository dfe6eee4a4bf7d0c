"""engine/published/ditctrl_pairs.py and engine/attention/prompt_mix.py against frame-by-frame sums, at many sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.attention import prompt_mix
from longreel.engine.published import ditctrl_pairs as pair_blend
from longreel.engine.sampling import latent_blend


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.integers(2, 4),
    length=st.integers(2, 14),
    between=st.integers(0, 2),
    repeat=st.integers(0, 1),
    data=st.data(),
)
def test_pairs_are_blended_frame_by_frame(
    prompts: int, length: int, between: int, repeat: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    layout = latent_blend.ditctrl_layout(prompts, length, overlap, between, repeat)
    segments = prompts + between * (prompts - 1) + repeat * max(0, prompts - 2)
    assert len(layout.starts) == segments
    total = length + (segments - 1) * (length - overlap)
    x = torch.randn(1, total, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(length))

    def predict(source, target, pair):
        return source * (pair + 1), target + pair

    top, bottom = torch.zeros(total, 3, dtype=torch.float64), torch.zeros(total, 1, dtype=torch.float64)
    for pair in range(segments - 1):
        for start, role in ((layout.starts[pair], 0), (layout.starts[pair + 1], 1)):
            for i in range(length):
                weight = min((2 * i + 1) / length, 2 - (2 * i + 1) / length)
                frame = x[0, start + i]
                top[start + i] += weight * (frame + pair if role else frame * (pair + 1))
                bottom[start + i] += weight
    got = pair_blend.denoise_in_pairs(x, layout.starts, length, predict, dim=1)
    torch.testing.assert_close(got, (top / bottom)[None], atol=1e-6, rtol=1e-6)


def test_equal_predictions_stay_as_they_are() -> None:
    x = torch.randn(1, 27, 2, generator=torch.Generator().manual_seed(0))
    got = pair_blend.denoise_in_pairs(x, [0, 7, 14], 13, lambda source, target, pair: (source, target), dim=1)
    torch.testing.assert_close(got, x)


def test_one_segment_has_no_pair() -> None:
    with pytest.raises(ValueError, match="1 segment has no neighbour"):
        pair_blend.pair_starts([0])


def test_prompts_are_mixed_by_their_shares() -> None:
    first, second = torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prompt_mix.mix_texts([(first, 0.25), (second, 0.75)]), 0.25 * first + 0.75 * second)
    assert prompt_mix.mix_texts([(first, 1.0)]) is first


def test_a_shorter_prompt_is_filled_with_nothing() -> None:
    short, long = torch.ones(1, 2, 3), torch.ones(1, 4, 3)
    assert prompt_mix.mix_texts([(short, 0.5), (long, 0.5)])[0, :, 0].tolist() == [1.0, 1.0, 0.5, 0.5]


def test_masks_are_joined_not_averaged() -> None:
    masks = [(torch.tensor([[1, 1]]), 0.5), (torch.tensor([[1, 0, 1]]), 0.5)]
    assert prompt_mix.mix_texts(masks).tolist() == [[1, 1, 1]]


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 0.8, not 1"):
        prompt_mix.mix_texts([(torch.ones(1, 2), 0.5), (torch.ones(1, 2), 0.3)])
