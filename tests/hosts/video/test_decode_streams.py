"""Every VAE that streams: the frames of core's own decode, in memory that does not grow with the video."""

import functools

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

from longreel.hosts.video.decode import decode_frames, decode_takes, decoder_of
from longreel.hosts.video.decode_hunyuan_video import REACH, HunyuanVideoDecoder, overlap
from tests import tiny_vaes
from tests.live_bytes import LiveBytes
from tests.tiny_vaes import KINDS, latent

# Pieces of another size than core's group the sums of a convolution differently.
ROUNDING = 1e-5
EQUAL = ["LTXV 0.9.0", "LTXV 0.9.5", "TAEHV", "TAEHV, 48 channels", "TAEHV, 32 channels"]  # Wan's: test_decode.py
HUNYUAN = ["HunyuanVideo", "HunyuanVideo 1.5"]


@pytest.fixture(autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


vae_of = functools.cache(tiny_vaes.build)


def streamed(name: str, samples: torch.Tensor, chunk: int = 0) -> torch.Tensor:
    frames = decode_frames(vae_of(name), samples, chunk)
    torch.manual_seed(1)  # LTXV draws noise
    return torch.cat([pixels.clone() for pixels in frames])


def at_once(name: str, samples: torch.Tensor) -> torch.Tensor:
    vae = vae_of(name)
    torch.manual_seed(1)
    return vae.decode(samples)[0]


@pytest.fixture
def without_norms_and_attention(monkeypatch):
    """Take out what sees all frames of the VAE named; all else in it is causal and of finite reach."""

    def take_out(name: str) -> None:
        for module in vae_of(name).first_stage_model.decoder.modules():
            if isinstance(module, torch.nn.GroupNorm):
                monkeypatch.setattr(module, "forward", lambda x: 0.5 * x)
            elif type(module).__name__ == "AttnBlock":
                monkeypatch.setattr(module, "forward", lambda x: x)

    return take_out


def reach(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    """Return the frames [f, H, W, c] that differ."""
    return (before != after).flatten(1).any(1).nonzero().flatten().tolist()


@pytest.mark.parametrize("chunk", (0, 3))
@pytest.mark.parametrize("name", EQUAL)
def test_frames_are_those_of_core_whatever_the_chunk(name: str, chunk: int):
    for frames in (1, 5):
        expected = at_once(name, latent(name, frames))
        assert expected.shape[0] == (frames - 1) * KINDS[name].frames + 1 and expected.std() > 0.01
        torch.testing.assert_close(streamed(name, latent(name, frames), chunk), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ["HunyuanVideo", "HunyuanVideo 1.5", "CogVideoX"])
@pytest.mark.parametrize("frames", (1, 3))
def test_what_sees_all_frames_gives_the_bits_of_core_where_it_does(name: str, frames: int):
    assert torch.equal(streamed(name, latent(name, frames), 3), at_once(name, latent(name, frames)))


@pytest.mark.parametrize("name", ["HunyuanVideo", "HunyuanVideo 1.5", "CogVideoX"])
def test_in_core_the_last_latent_frame_changes_the_first_picture(name: str):
    samples = latent(name, 5, 1)
    other = samples.clone()
    other[:, :, -1] += 1
    assert 0 in reach(at_once(name, samples), at_once(name, other))


def test_cogvideox_differs_by_its_norms_alone(without_norms_and_attention):
    without_norms_and_attention("CogVideoX")
    samples = latent("CogVideoX", 9, 1)
    expected = at_once("CogVideoX", samples)
    assert expected.std() > 0.01
    for chunk in (1, 2, 3, 4):
        torch.testing.assert_close(streamed("CogVideoX", samples, chunk), expected, rtol=0, atol=ROUNDING)


def test_an_even_number_of_latent_frames_loses_no_picture_of_cogvideox(without_norms_and_attention):
    without_norms_and_attention("CogVideoX")
    samples = latent("CogVideoX", 9, 1)
    expected = at_once("CogVideoX", samples)
    for frames, chunk in ((8, 0), (8, 3), (2, 0), (4, 9)):
        got = streamed("CogVideoX", samples[:, :, :frames], chunk)
        torch.testing.assert_close(got, expected[: 4 * frames - 3], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", HUNYUAN)
def test_hunyuan_video_differs_by_attention_and_norms_alone(without_norms_and_attention, name: str):
    without_norms_and_attention(name)
    samples = latent(name, 36, 1)
    expected = at_once(name, samples)
    assert expected.std() > 0.001 and overlap(32)[0] == REACH
    torch.testing.assert_close(streamed(name, samples, 32), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", HUNYUAN)
def test_the_middle_of_hunyuan_video_reaches_as_far_back_as_is_left_out(without_norms_and_attention, name: str):
    without_norms_and_attention(name)
    stream = HunyuanVideoDecoder(vae_of(name)).stream(33)
    samples = latent(name, 20, 1)
    other = samples.clone()
    other[:, :, 4] += 1
    before, after = (stream._middle(x)[0].movedim(0, -1) for x in (samples, other))
    assert reach(before, after) == list(range(4, 4 + REACH + 1))


@pytest.mark.parametrize("name", HUNYUAN)
def test_windows_go_over_into_each_other(name: str):
    """Where a window begins, the middle's output is nearly that of the window before; not mixed, it would jump."""
    samples = latent(name, 49, 1)
    stream = HunyuanVideoDecoder(vae_of(name)).stream(33)
    made = []
    stream._upper = lambda x, *carry: made.append(x) or x
    for start, stop in ((0, 33), (33, 49)):
        list(stream.push(samples[:, :, start:stop], stop == 49))
    made = torch.cat(made, 2)
    first = stream._middle(samples[:, :, :33])[:, :, 27:33]
    second = stream._middle(samples[:, :, 17:49])[:, :, 10:16]
    shares = (made[:, :, 27:33] - first).flatten(3).norm(dim=(1, 3)) / (second - first).flatten(3).norm(dim=(1, 3))
    torch.testing.assert_close(shares[0], torch.arange(1, 7) / 7, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "ahead"), [("LTXV 0.9.0", 24), ("LTXV 0.9.5", 22)])
def test_ltxv_looks_a_fixed_way_ahead_and_streams_beyond_it(name: str, ahead: int):
    frames, changed = 52, 26
    samples = latent(name, frames)
    other = samples.clone()
    other[:, :, changed] += 1
    torch.manual_seed(1)
    pieces = [pixels.clone() for pixels in decode_frames(vae_of(name), samples)]
    first, last = (reach(torch.cat(pieces), streamed(name, other))[end] for end in (0, -1))
    assert (changed - (first + 7) // 8, (last + 7) // 8 - changed) == (ahead, ahead)
    torch.testing.assert_close(torch.cat(pieces), at_once(name, samples), rtol=0, atol=ROUNDING)
    assert len(pieces) >= (frames - ahead) // 4


def test_ltxv_leaves_its_modules_as_they_were(monkeypatch):
    name = "LTXV 0.9.0"
    samples = latent(name, 32)
    expected = at_once(name, samples)
    decoder = vae_of(name).first_stage_model.decoder

    def kept() -> bool:
        return any(getattr(module, "temporal_cache_state", None) for module in decoder.modules())

    frames = decode_frames(vae_of(name), samples)
    begun = [next(frames).clone()]
    torch.testing.assert_close(at_once(name, samples), expected)  # another decode meanwhile
    begun += [pixels.clone() for pixels in frames]
    torch.testing.assert_close(torch.cat(begun), expected, rtol=0, atol=ROUNDING)
    assert not kept()
    abandoned = decode_frames(vae_of(name), samples)
    next(abandoned)
    del abandoned
    assert not kept()
    monkeypatch.setattr(decoder.conv_out, "forward", None)
    with pytest.raises(TypeError):
        next(decode_frames(vae_of(name), samples))
    assert not kept()


def test_ltxv_with_noise_of_its_own_says_that_no_two_decodes_are_equal():
    told = decoder_of(vae_of("LTXV 0.9.1")).told(9, 4)
    assert "adds noise of its own to every piece" in told
    assert streamed("LTXV 0.9.1", latent("LTXV 0.9.1", 6)).shape == (41, 64, 64, 3)
    assert "adds noise" not in decoder_of(vae_of("LTXV 0.9.5")).told(9, 4)


def peak(name: str, frames: int) -> int:
    samples = latent(name, frames, 1 if name in HUNYUAN else 2)
    with LiveBytes(samples, *vae_of(name).first_stage_model.state_dict().values()) as memory:
        for _ in decode_frames(vae_of(name), samples, 4 if name in HUNYUAN else 0):
            pass
    return memory.peak


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("LTXV 0.9.0", "LTXV 0.9.1", *EQUAL[3:])])
def test_twice_the_length_takes_no_more_memory(name: str):
    length = 32 if name.startswith("LTXV") else 8  # both lengths end with a piece of the same size
    latent_bytes = latent(name, length).nbytes
    peak(name, 2)
    assert peak(name, 2 * length) <= 1.02 * peak(name, length) + 2 * latent_bytes  # LTXV adds noise to all of it


@pytest.mark.parametrize("name", ["HunyuanVideo", "LTXV 0.9.0", "CogVideoX", "TAEHV"])
def test_a_cut_starts_every_vae_afresh_and_keeps_the_number_of_frames(name: str):
    samples = latent(name, 5)
    cut = torch.cat([pixels.clone() for pixels in decode_takes(vae_of(name), samples, [2, 3])])
    assert cut.shape[0] == 4 * KINDS[name].frames + 1
    behind = torch.cat([samples[:, :, 2:3], samples[:, :, 2:]], 2)
    before = streamed(name, samples[:, :, :2])
    torch.testing.assert_close(cut, torch.cat([before, streamed(name, behind)[1:]]), rtol=0, atol=ROUNDING)
