"""Decode the sound of LTX-2, [1, 8, T, 16], into one sound for the whole video, with core's audio VAE.

Layout in comfy/ldm/lightricks/vae/audio_vae.py. Its autoencoder is causal in time and its first latent is one column of
the spectrum where every other one is 4 (10 ms each), as a video VAE's first latent frame is a single picture. So the
sound is decoded a stretch at a time, with what the network looks back at in front and what its vocoder looks ahead at
behind, and the result is that of the whole sound decoded at once; its memory is that of a stretch. As with pictures
(decode.decode_takes), nothing of what was before a cut is heard behind it: a take's own first latent goes in front.
What comes out lies in main memory, 0.4 MB for a second of stereo at 48,000 samples.
"""

import torch
from torch import Tensor

from comfy import model_management
from comfy.ldm.lightricks.vae.audio_vae import LATENT_DOWNSAMPLE_FACTOR, AudioVAE

from ...engine.measure.soundtrack import Soundtrack
from ...engine.plan.sound import sound_of
from ...engine.plan.timeline import Timeline
from ..types import VAE

TIME_AXIS = FRAME_AXIS = 2  # [1, C, T, frequencies], [1, C, F, H, W]
STRETCH = 250  # latents decoded at once, 10 s
BACK, AHEAD = 64, 16  # latents that are shown beside them; more than any network of this kind looks at
FIRST = LATENT_DOWNSAMPLE_FACTOR - 1  # columns that the first latent has fewer than the others


def decode_sound(vae: VAE, sound: Tensor, takes: list[int]) -> Soundtrack:
    """Return the sound of a latent [1, C, T, frequencies]; takes: the latents of each, in order, T together.

    Raises ValueError for a VAE that does not decode LTX-2's sound, and for latents of another kind.
    """
    network = _network_of(vae)
    wanted = (network.latent_channels, network.latent_frequency_bins)
    if (sound.shape[1], *sound.shape[3:]) != wanted:
        raise ValueError(
            f"the sound in samples has {' x '.join(map(str, (sound.shape[1], *sound.shape[3:])))} channels and "
            f"frequencies and the audio VAE decodes {' x '.join(map(str, wanted))}; load the audio VAE of the model "
            f"that sampled it"
        )
    if sum(takes) != sound.shape[TIME_AXIS]:
        raise ValueError(
            f"the timeline has {sum(takes)} frames of sound and samples {sound.shape[TIME_AXIS]}; wire the timeline "
            f"that the latent was sampled with"
        )
    rate = network.output_sample_rate
    out, start = [], 0
    for take in takes:
        out += _decode_take(vae, sound, start, start + take, rate * network.mel_hop_length // network.sample_rate)
        start += take
    return Soundtrack(torch.cat(out, 1), rate)


def streams_of(samples: Tensor, has_vae: bool, has_other: bool) -> tuple[Tensor, Tensor | None]:
    """Return (video, the sound that is to be decoded or None) of a latent's samples, which may hold both.

    has_vae: a VAE for its sound is given; has_other: another sound is. Raises ValueError where there are two sounds for
    one video, or none is meant.
    """
    streams = samples.unbind() if samples.is_nested else [samples]
    if has_vae and has_other:
        raise ValueError("audio and audio_vae are both wired, and a video has 1 sound; unwire one of them")
    if has_vae and len(streams) < 2:
        raise ValueError("samples holds a video without sound, and audio_vae is wired; unwire it")
    if len(streams) > 1 and not has_vae and not has_other:
        raise ValueError(
            f"samples holds {len(streams)} latents in one, video and sound; wire core's Load LTXV Audio VAE into "
            f"audio_vae, another sound into audio, or for a silent video LTXVSeparateAVLatent in front"
        )
    return streams[0], streams[1] if has_vae else None


def sound_of_video(
    pictures: VAE, vae: VAE, streams: tuple[Tensor, Tensor], fps: float, timeline: Timeline | None
) -> Soundtrack:
    """Return the sound of (video [1, C, F, H, W], sound [1, C, T, frequencies]), afresh with every take of a timeline.

    pictures: the video's VAE. Raises ValueError as `decode_sound` does, and for frames per second at which the video is
    not as long as its sound.
    """
    video, sound = streams
    frames = sound.shape[TIME_AXIS]
    plan = None if timeline is None else sound_of(timeline)
    takes, start = [], 0
    for length in [] if plan is None or timeline is None else timeline.take_lengths:
        takes.append(plan.between(start, start + length))
        start += length
    soundtrack = decode_sound(vae, sound, [last - first for first, last in takes] or [frames])
    pixel_frames, of_video = video.shape[FRAME_AXIS], pictures.upscale_ratio
    if isinstance(of_video, tuple):  # of an image VAE it is one number
        pixel_frames = of_video[0](pixel_frames)
    if abs(soundtrack.seconds - pixel_frames / fps) > 2 / _network_of(vae).latents_per_second:
        raise ValueError(
            f"the video's {pixel_frames} frames are {pixel_frames / fps:.2f} s at fps {fps:g} and its sound is "
            f"{soundtrack.seconds:.2f} s; wire fps from the Longreel Plan that it was made with, about "
            f"{pixel_frames / soundtrack.seconds:.3g}"
        )
    return soundtrack


def _network_of(vae: VAE) -> AudioVAE:
    network = vae.first_stage_model
    if not isinstance(network, AudioVAE):
        raise ValueError(
            f"audio_vae {type(network).__module__}.{type(network).__qualname__} does not decode the sound of LTX-2; "
            f"load it with core's Load LTXV Audio VAE"
        )
    return network


def _decode_take(vae: VAE, sound: Tensor, start: int, end: int, column: int) -> list[Tensor]:
    """Return samples [C, t] of the latents [start, end), which begin a take; column: samples of a column."""
    parts = []
    for first in range(start, end, STRETCH):
        model_management.throw_exception_if_processing_interrupted()
        last = min(first + STRETCH, end)
        begin, stop = max(start, first - BACK), min(last + AHEAD, end)
        shown = sound.narrow(TIME_AXIS, begin, stop - begin)
        if begin == start and start:  # behind a cut
            shown, begin = torch.cat([shown[:, :, :1], shown], TIME_AXIS), begin - 1
        with torch.inference_mode():
            samples = vae.decode(shown)[0].movedim(-1, 0)  # [1, t, C] -> [C, t]
        # The vocoder puts out a little more, behind the last column.
        places = (max(0, (latent - begin) * LATENT_DOWNSAMPLE_FACTOR - FIRST) * column for latent in (first, last))
        parts.append(samples[:, slice(*places)].float().cpu())
    return parts
