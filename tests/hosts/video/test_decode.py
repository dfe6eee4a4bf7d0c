"""Streamed frames are the frames of core's own decode, for every VAE, and what is no video is refused by name."""

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.ldm.wan.vae as wan21
import comfy.ldm.wan.vae2_2 as wan22
import comfy.nested_tensor
import comfy.sd
from comfy import model_management

from longreel.hosts.video.decode import decode_frames, pixel_size

LATENT_LENGTHS = (1, 2, 5, 6, 9)
# Steps of another size than core's group the sums of a convolution differently.
ROUNDING = 1e-5
# Core applies Wan 2.2's first convolution to the whole latent at once; one frame at a time it may round differently.
LAST_BIT = 5e-7


@pytest.fixture(autouse=True)
def as_comfyui_runs_nodes():
    """Weights that core loads under inference mode can be used in no other."""
    with torch.inference_mode():
        yield


def latent(channels: int, frames: int, size: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, frames, size, size, generator=torch.Generator().manual_seed(frames))


def joined(vae, samples: torch.Tensor, chunk: int = 0) -> torch.Tensor:
    return torch.cat(list(decode_frames(vae, samples, chunk)))


def fill(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Seeded weights that keep the signal alive through every layer."""
    generator = torch.Generator().manual_seed(5)
    for weight in network.parameters():
        if weight.ndim > 1 and weight.shape[0] != weight.numel():
            weight.data = torch.randn(weight.shape, generator=generator) / (weight[0].numel() ** 0.5)
        else:
            weight.data = torch.rand(weight.shape, generator=generator)
    return network.state_dict()


@pytest.fixture(scope="module")
def small_wan22():
    """Wan 2.2's VAE through comfy.sd.VAE, whose 160 and 256 channels are turned into 8 each."""
    original = wan22.WanVAE.__init__

    def small(self, **config):
        original(self, **{**config, "dim": 8, "dec_dim": 8})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan22.WanVAE, "__init__", small)
        network = wan22.WanVAE(z_dim=48, temperal_downsample=[False, True, True])
        yield comfy.sd.VAE(sd=fill(network))


@pytest.fixture(scope="module")
def small_rgba():
    """A Wan 2.1 VAE of four colours, as layered image models have it."""
    network = wan21.WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        temperal_downsample=[False, True, True],
        image_channels=4,
        conv_out_channels=4,
    )
    return comfy.sd.VAE(sd=fill(network))


@pytest.fixture(scope="module")
def image_vae():
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})


@pytest.mark.parametrize("frames", LATENT_LENGTHS)
def test_wan21_frames_are_bit_equal_to_core(tiny, frames: int):
    vae = tiny("wan21").vae
    expected = vae.decode(latent(16, frames))[0]
    assert expected.shape[0] == 4 * frames - 3 and expected.std() > 0.01
    assert torch.equal(joined(vae, latent(16, frames)), expected)


@pytest.mark.parametrize("frames", LATENT_LENGTHS)
def test_wan21_frames_do_not_depend_on_the_chunk(tiny, frames: int):
    vae = tiny("wan21").vae
    expected = vae.decode(latent(16, frames))[0]
    for chunk in (1, 3, 4, 16):
        torch.testing.assert_close(joined(vae, latent(16, frames), chunk), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("frames", LATENT_LENGTHS)
def test_wan22_frames_are_those_of_core(small_wan22, frames: int):
    expected = small_wan22.decode(latent(48, frames, 2))[0]
    assert expected.shape == (4 * frames - 3, 32, 32, 3) and expected.std() > 0.01
    torch.testing.assert_close(joined(small_wan22, latent(48, frames, 2)), expected, rtol=0, atol=LAST_BIT)


@pytest.mark.parametrize("chunk", (2, 3, 8))
def test_wan22_frames_do_not_depend_on_the_chunk(small_wan22, chunk: int):
    expected = small_wan22.decode(latent(48, 9, 2))[0]
    torch.testing.assert_close(joined(small_wan22, latent(48, 9, 2), chunk), expected, rtol=0, atol=ROUNDING)


def test_chunk_says_how_many_frames_come_at_once(tiny):
    vae = tiny("wan21").vae
    assert [len(pixels) for pixels in decode_frames(vae, latent(16, 9))] == [1, 8, 8, 8, 8]
    assert [len(pixels) for pixels in decode_frames(vae, latent(16, 9), 3)] == [1, 12, 12, 8]


def test_transparency_is_left_out_and_the_log_says_so(small_rgba, caplog):
    samples = latent(16, 3)
    assert torch.equal(joined(small_rgba, samples), small_rgba.decode(samples)[0][..., :3])
    assert "transparency" in caplog.text


@pytest.fixture
def memory_for(tiny, monkeypatch):
    """Make every pass of more than `limit` latent frames run out of memory, as CUDA reports it."""
    decoder = tiny("wan21").vae.first_stage_model.decoder
    original = decoder.forward

    def set_limit(limit: int, after_passes: int = 0):
        passes = 0

        def forward(x, *args, **kwargs):
            nonlocal passes
            passes += 1
            if x.shape[2] > limit and passes > after_passes:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return original(x, *args, **kwargs)

        monkeypatch.setattr(decoder, "forward", forward)

    return set_limit


def test_a_chunk_that_does_not_fit_is_halved_without_losing_a_frame(tiny, memory_for, caplog):
    vae = tiny("wan21").vae
    expected = vae.decode(latent(16, 9))[0]
    memory_for(1, after_passes=2)
    torch.testing.assert_close(joined(vae, latent(16, 9), 5), expected, rtol=0, atol=ROUNDING)
    for before, after in ((5, 2), (2, 1)):
        assert f"Out of memory decoding {before} latent frames at a time; going on with {after}." in caplog.text


def test_tiles_stream_what_does_not_fit_as_a_whole(tiny, monkeypatch, caplog):
    vae = tiny("wan21").vae
    samples = latent(16, 2, 12)
    expected = vae.decode(samples)[0]
    decoder = vae.first_stage_model.decoder
    original, sizes = decoder.forward, []

    def forward(x, *args, **kwargs):
        sizes.append(tuple(x.shape[2:]))
        if max(x.shape[3:]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(x, *args, **kwargs)

    monkeypatch.setattr(decoder, "forward", forward)
    monkeypatch.setattr("longreel.hosts.video.stream.TILES", (80, 64))
    monkeypatch.setattr("longreel.hosts.video.tiles.OVERLAP", 32)
    frames = joined(vae, samples, 1)
    assert "decoding 1 latent frames at a time; going on in tiles of 80 pixels" in caplog.text
    assert "at a time in tiles of 80 pixels; going on in tiles of 64 pixels" in caplog.text
    assert sizes[-4:] == [(1, 8, 8)] * 4 and frames.shape == expected.shape
    # What sees the whole picture, attention first of all, sees a tile; yet no tile lies in another one's place.
    assert (frames - expected).abs().mean() < 0.5 * (frames - expected.roll(8, 2)).abs().mean()


def test_memory_that_is_too_small_for_any_tile_is_said_as_torch_says_it(tiny, memory_for):
    memory_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        joined(tiny("wan21").vae, latent(16, 2))


def test_another_error_is_not_taken_for_full_memory(tiny, monkeypatch):
    vae = tiny("wan21").vae

    def broken(*args, **kwargs):
        raise RuntimeError("a broken network")

    monkeypatch.setattr(vae.first_stage_model.decoder, "forward", broken)
    with pytest.raises(RuntimeError, match="a broken network"):
        joined(vae, latent(16, 2))


def test_an_interrupt_stops_between_two_chunks(tiny):
    frames = decode_frames(tiny("wan21").vae, latent(16, 9))
    next(frames)
    model_management.interrupt_current_processing(True)
    with pytest.raises(model_management.InterruptProcessingException):
        next(frames)


@pytest.fixture
def unknown(tiny, monkeypatch):
    """LTXV's VAE under the name of a class that nobody knows: it may decode in another way than its parent."""
    vae = tiny("ltxv").vae
    network = vae.first_stage_model
    monkeypatch.setattr(network, "__class__", type("OthersVAE", (type(network),), {}))
    return vae


def test_an_unknown_video_vae_goes_through_core_and_is_logged(unknown, caplog):
    samples = latent(128, 4, 2)
    frames = joined(unknown, samples)
    torch.testing.assert_close(frames, unknown.decode(samples)[0], rtol=0, atol=ROUNDING)
    assert "OthersVAE" in caplog.text and "tiled decode" in caplog.text


def test_chunk_is_the_tile_of_the_tiled_decode(unknown, monkeypatch):
    tiles = []
    decode_tiled = unknown.decode_tiled

    def watched(samples, **sizes):
        tiles.append((sizes["tile_t"], sizes["overlap_t"]))
        return decode_tiled(samples, **sizes)

    monkeypatch.setattr(unknown, "decode_tiled", watched)
    assert len(joined(unknown, latent(128, 6, 2), 3)) == 41
    joined(unknown, latent(128, 6, 2))
    assert tiles == [(3, 1), (8, 1)]


@pytest.mark.parametrize("dimensions", (4, 5))
def test_an_image_vae_turns_each_latent_frame_into_one(image_vae, dimensions: int):
    images = torch.rand(10, 3, 6, 4)
    samples = images if dimensions == 4 else images.movedim(1, 0)[None]
    frames = list(decode_frames(image_vae, samples, 4))
    assert [len(pixels) for pixels in frames] == [4, 4, 2]
    torch.testing.assert_close(torch.cat(frames), image_vae.decode(images))
    assert pixel_size(image_vae, samples) == (4, 6)


def test_what_is_no_video_is_refused_by_name(tiny, image_vae, caplog):
    vae = tiny("wan21").vae
    nested = comfy.nested_tensor.NestedTensor([latent(128, 2), torch.zeros(1, 8, 4, 16)])
    refused = [
        (nested, 0, "2 latents in one .*LTXVSeparateAVLatent"),
        (latent(48, 2), 0, "48 channels .* decodes 16"),
        (latent(16, 2)[0], 0, "4 dimensions .* 5"),
        (latent(16, 2).repeat(2, 1, 1, 1, 1), 0, "2 videos .*LatentFromBatch"),
        (latent(16, 0), 0, "empty.* at least 1"),
        (latent(16, 2), -1, "-1; use 0"),
    ]
    for samples, chunk, message in refused:
        with pytest.raises(ValueError, match=message):
            decode_frames(vae, samples, chunk)


def test_a_vae_of_sound_is_refused(tiny, monkeypatch):
    vae = tiny("wan21").vae
    monkeypatch.setattr(vae, "latent_dim", 1)
    with pytest.raises(ValueError, match="does not decode to pictures"):
        decode_frames(vae, latent(16, 2))
