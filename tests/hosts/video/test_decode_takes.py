"""A cut starts the VAE afresh: what stands before it does not show behind it."""

import pytest
import torch

from longreel.hosts.video.decode import decode_frames, decode_takes


def frames(chunks) -> torch.Tensor:
    return torch.cat([chunk.clone() for chunk in chunks])


@pytest.fixture(autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn(1, 16, 9, 4, 4, generator=torch.Generator().manual_seed(1))


def test_without_a_cut_nothing_changes(tiny, latent):
    vae = tiny("wan21").vae
    assert torch.equal(frames(decode_takes(vae, latent, [9])), frames(decode_frames(vae, latent)))


@pytest.mark.parametrize("takes", [[4, 5], [1, 8], [3, 5, 1]])
def test_a_cut_keeps_the_number_of_frames_and_the_shots_before_it(tiny, latent, takes):
    vae = tiny("wan21").vae
    whole, cut = frames(decode_frames(vae, latent)), frames(decode_takes(vae, latent, takes))
    border = 1 + 4 * (takes[0] - 1)
    assert cut.shape == whole.shape
    assert torch.allclose(cut[:border], whole[:border], atol=1e-5)  # other chunks, other rounding
    assert not torch.allclose(cut[border : border + 4], whole[border : border + 4], atol=1e-3)


def test_what_stands_before_a_cut_does_not_show_behind_it(tiny, latent):
    vae = tiny("wan21").vae
    other = latent.clone()
    other[:, :, :4] = torch.randn(1, 16, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    behind = slice(1 + 4 * 3, None)
    assert torch.equal(
        frames(decode_takes(vae, latent, [4, 5]))[behind], frames(decode_takes(vae, other, [4, 5]))[behind]
    )
    assert not torch.equal(frames(decode_frames(vae, latent))[behind], frames(decode_frames(vae, other))[behind])


def test_a_timeline_of_another_length_is_refused_with_both_numbers(tiny, latent):
    with pytest.raises(ValueError, match="the timeline has 13 latent frames and samples 9; wire the timeline"):
        decode_takes(tiny("wan21").vae, latent, [4, 9])


def test_what_is_no_video_is_refused_as_without_a_timeline(tiny, latent):
    with pytest.raises(ValueError, match="samples has 4 dimensions"):
        decode_takes(tiny("wan21").vae, latent[0], [4, 5])
