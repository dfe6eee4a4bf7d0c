"""engine/memory/cam.py: what an injector and an encoder do, beside the golden tensors of the published ones."""

import pytest
import torch

from longreel.engine.memory.cam import CAM, CAMConfig, FrameEncoder, FrameInjector

B, F, P, C, CONDITIONING = 2, 5, 6, 64, 3


def frames(count: int = F, seed: int = 0, places: int = P) -> torch.Tensor:
    return torch.randn(B, count, places, C, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def injector() -> FrameInjector:
    torch.manual_seed(0)
    return FrameInjector(C, 2).requires_grad_(False)


def test_a_new_injector_gives_back_its_frames_to_the_bit(injector):
    injector.start()
    assert torch.equal(injector(frames(), frames(CONDITIONING, seed=1)), frames())


def test_strength_scales_what_is_added(injector):
    x, y = frames(), frames(CONDITIONING, seed=1)
    assert torch.equal(injector(x, y, 0.0), x)
    torch.testing.assert_close(injector(x, y, 0.5) - x, (injector(x, y) - x) / 2)


def test_the_order_of_the_conditioning_frames_does_not_matter(injector):
    x, y = frames(), frames(CONDITIONING, seed=1)
    torch.testing.assert_close(injector(x, y.flip(1)), injector(x, y), atol=2e-6, rtol=1e-5)


def test_a_place_reads_its_own_place_in_the_conditioning_frames_and_no_other(injector):
    x, y = frames(), frames(CONDITIONING, seed=1)
    elsewhere = y.clone()
    elsewhere[:, :, 2] += 1
    changed = (injector(x, elsewhere) - injector(x, y)).abs().amax(dim=(0, 1, 3))  # [P]
    assert changed[2] > 1e-3
    assert not changed[[0, 1, 3, 4, 5]].any()


def test_all_frames_read_all_conditioning_frames(injector):
    x, y = frames(), frames(CONDITIONING, seed=1)
    for number in range(CONDITIONING):
        other = y.clone()
        other[:, number] += 1
        changed = (injector(x, other) - injector(x, y)).abs().amax(dim=(0, 2, 3))  # [F]
        assert (changed > 1e-4).all()


def test_frames_of_another_size_are_refused(injector):
    with pytest.raises(ValueError, match="4 places and the video's 6"):
        injector(frames(), frames(CONDITIONING, places=4))


@pytest.mark.parametrize(("channels", "size"), [((8,), (9, 7)), ((8, 12), (5, 4)), ((8, 12, 16), (3, 2))])
def test_an_encoder_halves_between_neighbouring_channels(channels, size):
    encoder = FrameEncoder(4, channels, C, normalised=True)
    assert encoder(torch.zeros(B, 4, 9, 7)).shape == (B, C, *size)


def test_a_new_encoder_adds_nothing_and_its_frames_do_not_see_each_other():
    torch.manual_seed(0)
    encoder = FrameEncoder(4, (8, 12), C, normalised=True).requires_grad_(False)
    x = torch.randn(B, 4, 8, 8)
    one = encoder(x)[:1]
    torch.testing.assert_close(encoder(x[:1]), one)
    encoder.start()
    assert not encoder(x).any()


def test_norms_belong_to_the_encoders_that_have_them():
    config = CAMConfig(4, (8, 12), C, 1)
    assert not any("norms" in name for name in FrameEncoder(4, (8, 12), C, normalised=False).state_dict())
    assert any("norms" in name for name in CAM(config, [0]).state_dict())


def test_a_new_module_is_neutral_and_knows_its_layers():
    module = CAM(CAMConfig(4, (8,), C, 1), [3, 1])
    module.start()
    assert module.layers == (3, 1)
    assert not any(
        module.state_dict()[name].any()
        for name in (
            "encoder.conv_out.weight",
            "encoder.conv_out.bias",
            "injectors.1.proj_out.weight",
            "injectors.3.proj_out.bias",
        )
    )


@pytest.mark.parametrize(("width", "heads"), [(48, 1), (64, 3)])
def test_a_width_that_does_not_divide_is_refused(width, heads):
    with pytest.raises(ValueError, match=f"{width} channels do not divide by the 32 groups .* {heads} heads"):
        CAMConfig(4, (8,), width, heads)
