"""hosts/video/decode_sound.py: LTX-2's sound, a stretch at a time, is core's decode of it, and lies in its place."""

import pytest
import torch

from comfy_extras.nodes_lt_audio import LTXVAudioVAEDecode

from longreel.hosts.video import decode_sound
from tests import tiny_audio_video

COLUMN = 160  # samples of a column of the spectrum at the tiny vocoder's rate


def latents(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 8, frames, 16, generator=torch.Generator().manual_seed(seed))


def cores(vae, sound: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return LTXVAudioVAEDecode.execute({"samples": sound}, vae).args[0]["waveform"][0]


def test_a_sound_in_stretches_is_cores_decode_of_all_of_it(monkeypatch):
    vae, sound = tiny_audio_video.load_audio_vae(), latents(150)
    whole = cores(vae, sound)[:, : (4 * 150 - 3) * COLUMN]  # behind it its vocoder puts out 2 ms more
    monkeypatch.setattr(decode_sound, "STRETCH", 40)
    ours = decode_sound.decode_sound(vae, sound, [150])
    assert ours.rate == 16000 and ours.samples.shape == whole.shape
    assert whole.std() > 1e-3 and (ours.samples - whole).abs().max() < 1e-4 * whole.abs().max()
    monkeypatch.setattr(decode_sound, "BACK", 2)
    monkeypatch.setattr(decode_sound, "AHEAD", 0)
    short = decode_sound.decode_sound(vae, sound, [150])
    assert (short.samples - whole).abs().max() > 1e-2 * whole.abs().max()  # it does look back and ahead


def test_nothing_before_a_cut_is_heard_behind_it_and_the_sound_keeps_its_place():
    vae, sound, other = tiny_audio_video.load_audio_vae(), latents(60), latents(60, seed=1)
    other[:, :, 25:] = sound[:, :, 25:]
    one, two = (decode_sound.decode_sound(vae, each, [25, 35]).samples for each in (sound, other))
    at = (4 * 25 - 3) * COLUMN
    assert one.shape == (2, (4 * 60 - 3) * COLUMN)
    assert torch.equal(one[:, at:], two[:, at:]) and not torch.equal(one[:, :at], two[:, :at])
    apart = decode_sound.decode_sound(vae, sound[:, :, :25], [25]).samples
    assert torch.equal(one[:, :at], apart)


@pytest.mark.parametrize("takes", [[60], [25, 35]])
def test_a_click_is_heard_where_its_latent_lies(takes):
    """From the 30th latent on the sound is another one; the first sample that differs is at 4 * 30 - 3 columns, but
    for what the vocoder, which is not causal, looks ahead: less than a sound frame."""
    vae, sound = tiny_audio_video.load_audio_vae(), latents(60)
    changed = sound.clone()
    changed[:, :, 30:] += 3
    one, two = (decode_sound.decode_sound(vae, each, takes).samples for each in (sound, changed))
    differs = (one - two).abs().amax(0)
    first = int((differs > 0.1 * differs.max()).nonzero()[0])
    assert abs(first - (4 * 30 - 3) * COLUMN) < 4 * COLUMN


def test_wrong_vaes_and_latents_are_refused():
    vae, pictures = tiny_audio_video.load_audio_vae(), tiny_audio_video.load().vae
    with pytest.raises(ValueError, match="VideoVAE does not decode the sound of LTX-2; load it with core's Load LTXV"):
        decode_sound.decode_sound(pictures, latents(5), [5])
    with pytest.raises(ValueError, match="has 8 x 8 channels and frequencies and the audio VAE decodes 8 x 16"):
        decode_sound.decode_sound(vae, latents(5)[..., :8], [5])
    with pytest.raises(ValueError, match="the timeline has 4 frames of sound and samples 5"):
        decode_sound.decode_sound(vae, latents(5), [4])
