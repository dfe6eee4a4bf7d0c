"""The demo model's training networks are ComfyUI's Wan networks: same state dict, same numbers."""

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.ops
from comfy.ldm.wan.model import WanModel
from comfy.ldm.wan.vae import WanVAE

from longreel.demo import dit_net, muon, vae_net


def mean_difference(one: torch.Tensor, two: torch.Tensor) -> float:
    """Not the largest: a pixel whose features happen to be nearly zero is normalised to full size, rounding
    included."""
    assert one.shape == two.shape
    return (one - two).abs().mean().item()


@pytest.mark.parametrize("pixel_frames", [1, 5, 9, 17])
def test_the_vae_encodes_and_decodes_as_comfyui_does(pixel_frames):
    torch.manual_seed(0)
    ours = vae_net.VAE(dim=4).eval()
    theirs = WanVAE(
        dim=4,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    video = torch.rand(1, 3, pixel_frames, 32, 32) * 2 - 1
    with torch.no_grad():
        latent = ours.moments(video)[0]
        assert mean_difference(latent, theirs.encode(video)) < 1e-5
        assert mean_difference(ours.decode(latent), theirs.decode(latent)) < 1e-5


@pytest.mark.parametrize("latent_frames, times", [(1, 1), (5, 1), (6, 1), (5, 5)])
def test_the_transformer_predicts_as_comfyui_does(latent_frames, times, monkeypatch):
    monkeypatch.setattr(dit_net, "HALF_PRECISION", False)
    torch.manual_seed(0)
    shape = {"width": 64, "ffn_width": 128, "heads": 2, "layers": 2}
    ours = dit_net.DiT(**shape, text_width=32).eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    theirs = WanModel(
        dim=64,
        ffn_dim=128,
        num_heads=2,
        num_layers=2,
        text_dim=32,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    x, context, timestep = torch.randn(2, 16, latent_frames, 8, 8), torch.randn(2, 20, 32), torch.tensor([300.0, 900.0])
    if times > 1:  # a time of its own for every frame
        timestep = timestep[:, None] - torch.arange(times) * 50.0
    with torch.no_grad():
        assert torch.allclose(ours(x, timestep, context), theirs(x, timestep, context), atol=1e-4)


def test_muon_makes_matrices_nearly_orthogonal():
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(muon.orthogonalise(matrices))
    assert singular.min() > 0.5 and singular.max() < 1.5
