"""engine/memory/apm.py: what mixing does, beside the golden tensors of the published module."""

import pytest
import torch

from longreel.engine.memory.apm import APM, APMConfig, PictureTokens, TextMixer

B, L, TOKENS, C = 2, 7, 4, 16


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def mixer() -> TextMixer:
    torch.manual_seed(0)
    mixer = TextMixer(L, TOKENS, C).requires_grad_(False)
    mixer.alpha.fill_(0.8)
    return mixer


def test_a_new_mixer_gives_back_the_text_to_the_bit():
    text = drawn(B, L, C)
    assert torch.equal(TextMixer(L, TOKENS, C)(text, drawn(B, TOKENS, C, seed=1)), text)


def test_strength_scales_what_is_added(mixer):
    text, picture = drawn(B, L, C), drawn(B, TOKENS, C, seed=1)
    assert torch.equal(mixer(text, picture, 0.0), text)
    torch.testing.assert_close(mixer(text, picture, 0.5) - text, (mixer(text, picture) - text) / 2)


def test_the_weight_is_silu_of_alpha_which_dips_below_zero(mixer):
    text, picture = drawn(B, L, C), drawn(B, TOKENS, C, seed=1)
    mixer.alpha.fill_(-1.0)
    added = mixer(text, picture) - text
    torch.testing.assert_close(added, -0.26894143 * mixer.mixture(text, picture))


def test_every_token_reads_every_picture_token(mixer):
    text, picture = drawn(B, L, C), drawn(B, TOKENS, C, seed=1)
    for number in range(TOKENS):
        other = picture.clone()
        other[:, number] += drawn(B, C, seed=2)
        assert ((mixer(text, other) - mixer(text, picture)).abs().amax(dim=(0, 2)) > 1e-5).all()


def test_a_shorter_text_is_filled_with_zeros(mixer):
    text, picture = drawn(B, 5, C), drawn(B, TOKENS, C, seed=1)
    filled = torch.cat([text, torch.zeros(B, 2, C)], dim=1)
    torch.testing.assert_close(mixer(text, picture), mixer(filled, picture)[:, :5])


def test_a_longer_text_is_refused(mixer):
    with pytest.raises(ValueError, match="8 tokens and APM was made for 7"):
        mixer(drawn(B, 8, C), drawn(B, TOKENS, C))


def test_tokens_come_from_the_mean_over_anchor_frames():
    torch.manual_seed(0)
    tokens = PictureTokens(6, 5, TOKENS, C).requires_grad_(False)
    vectors = drawn(B, 3, 6)
    torch.testing.assert_close(tokens(vectors), tokens(vectors.mean(dim=1, keepdim=True)))
    assert tokens(vectors).shape == (B, TOKENS, C)
    assert not torch.allclose(tokens(vectors), tokens(vectors[:, :1]))


def test_a_picture_is_made_of_any_size_and_number_of_anchor_frames():
    torch.manual_seed(0)
    module = APM(APMConfig(3, C, L, TOKENS, vector=6, inner=5), [0, 2]).requires_grad_(False)
    assert module.layers == (0, 2)
    for shape in [(B, 3, 1, 8, 8), (B, 3, 2, 5, 9)]:
        assert module.picture(drawn(*shape)).shape == (B, TOKENS, C)
    video = drawn(B, 3, 2, 8, 8)
    assert not torch.allclose(module.picture(video), module.picture(video[:, :, :1]))
    assert not torch.allclose(module.picture(video), module.picture(torch.zeros_like(video)))


def test_a_started_module_is_neutral():
    module = APM(APMConfig(3, C, L, TOKENS, vector=6, inner=5), [1]).requires_grad_(False)
    module.mixers["1"].alpha.fill_(2.0)
    module.start()
    text = drawn(B, L, C)
    assert torch.equal(module.mixers["1"](text, module.picture(drawn(B, 3, 1, 8, 8))), text)
