"""Turn the sound of shots into what Wan 2.2 S2V and HuMo hear, with the functions of core's own nodes
(comfy_extras/nodes_wan.py).

    file -> core's audio encoder, once for each file -> core's features for each frame of the video
         -> laid under its shot, on one track for the whole timeline -> audio_embed of every entry

A window is cut out of the track as out of any other conditioning (hosts/prompts/time_axis.py). So a chunk hears what
core's node would give it at its place in the file, and what one file is does not change with the shots that others are
under: the chunks before them stay as they were. Frames without a sound have zeros, as core has behind a sound's end.
S2V counts four frames for every latent one, HuMo the pixel frames. Which of the two a model is, is not known here: the
encoder's features tell them apart, and hosts/windows/checks.py holds them against the model.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from comfy_extras import nodes_wan

from ...engine.plan.shot_sound import Laid, lay_sound
from ...engine.plan.timeline import Timeline
from .sound_file import MOST_SECONDS, Sound, find_audio, read_sound

FEATURES_RATE, S2V_RATE = 50, 30  # of both encoders, a second; to which S2V's are stretched, as core does it
PER_LATENT = 4  # pixel frames
HUMO_GROUPS = ((0, 8), (8, 16), (16, 24), (24, 32), (32, 33))  # layers that are averaged
SAMPLES_PER_PAIR = 640  # of 16,000 a second, to two features of whisper
ENCODER_RATE = 16_000

AudioEncoder = Any  # of core's loader: encode_audio(waveform [B, channels, samples], rate)


class Form(NamedTuple):
    """This is how one kind of network hears.

    begins: (latent frame) -> the frame at which it begins. track: (features [1, T, width] of each layer, frames a
    second) -> [frames, layers, width]. behind: frames that it hears behind the video's last one. embed: (a track of the
    video and these, latent frames) -> audio_embed.
    """

    encoder: str
    begins: Callable[[int], int]
    track: Callable[[Sequence[torch.Tensor], float], torch.Tensor]
    embed: Callable[[torch.Tensor, int], torch.Tensor]
    behind: int = 0


class Heard(NamedTuple):
    """embed: audio_embed for the whole timeline. encoder: whose features they are. shot, file: the first sound's."""

    embed: torch.Tensor
    encoder: str
    shot: int
    file: str


def hear(encoder: AudioEncoder | None, timeline: Timeline) -> Heard | None:
    """Return what the network hears of a timeline's shots; None where no shot has a sound.

    Raises ValueError, naming the shot, where there is no encoder, or one of another network, for a file that cannot be
    read, and for an offset behind a file's end.
    """
    files: dict[str, int] = {}
    for planned in timeline.shots:
        if planned.shot.audio is not None:
            files.setdefault(planned.shot.audio.file, planned.index)
    if not files:
        return None
    file, shot = next(iter(files.items()))
    if encoder is None:
        raise ValueError(
            f"shot {shot + 1}: audio {file} is to be heard, and no audio encoder is wired; wire core's Load Audio "
            f"Encoder into audio_encoder ({S2V.encoder} for Wan 2.2 S2V, {HUMO.encoder} for HuMo)"
        )
    sounds = {name: _read(name, number) for name, number in files.items()}
    encoded = {name: _encode(encoder, sound) for name, sound in sounds.items()}
    form = _form_of(encoded[file], shot)
    tracks = {name: form.track(layers, timeline.fps) for name, layers in encoded.items()}
    end = form.begins(timeline.latent_frames)
    whole = tracks[file].new_zeros(end + form.behind, *tracks[file].shape[1:])
    for laid in lay_sound(timeline, form.begins):
        _check_place(laid, sounds[laid.file], timeline)
        frames = laid.end - laid.start + (form.behind if laid.end == end else 0)
        own = tracks[laid.file][laid.first : laid.first + frames]
        whole[laid.start : laid.start + len(own)] = own
    return Heard(form.embed(whole, timeline.latent_frames), form.encoder, shot, file)


def _read(file: str, shot: int) -> Sound:
    try:
        return read_sound(Path(find_audio(file)))
    except ValueError as error:
        raise ValueError(f"shot {shot + 1}, audio: {error}") from error


def _encode(encoder: AudioEncoder, sound: Sound) -> list[torch.Tensor]:
    """Return the features [1, T, width] of each layer. Whisper hears no more than 30 seconds at once: it gets several
    of them, one after the other.
    """
    most = getattr(encoder.model.feature_extractor, "n_samples", None)
    block = sound.waveform.shape[1] if most is None else most * sound.rate // ENCODER_RATE
    parts = []
    for waveform in sound.waveform.split(block, dim=1):
        out = encoder.encode_audio(waveform[None], sound.rate)
        layers = [layer.cpu().float() for layer in out["encoded_audio_all_layers"]]
        if len(layers) == HUMO_GROUPS[-1][-1]:
            layers = [layer[:, : out["audio_samples"] // SAMPLES_PER_PAIR * 2] for layer in layers]
        parts.append(layers)
    return [torch.cat(layer, 1) for layer in zip(*parts, strict=True)]


def _form_of(layers: Sequence[torch.Tensor], shot: int) -> Form:
    found = len(layers), layers[0].shape[-1]
    if found not in FORMS:
        raise ValueError(
            f"shot {shot + 1}: the audio encoder gives {found[0]} layers of {found[1]} numbers; Wan 2.2 S2V hears 25 "
            f"of 1024 ({S2V.encoder}), HuMo 33 of 1280 ({HUMO.encoder}): load one of these"
        )
    return FORMS[found]


def _check_place(laid: Laid, sound: Sound, timeline: Timeline) -> None:
    offset = timeline.shots[laid.shot].shot.audio.offset
    if offset is not None and offset >= sound.seconds and sound.whole:
        raise ValueError(
            f"shot {laid.shot + 1}, audio: offset is {offset:g}, and {laid.file} ends at {sound.seconds:.2f} s; write "
            f"a smaller one"
        )
    ends = (laid.first + laid.end - laid.start) / timeline.fps
    if not sound.whole and ends > sound.seconds + 1 / timeline.fps:
        raise ValueError(
            f"shot {laid.shot + 1}, audio: it needs {laid.file} up to {ends:.2f} s, and {MOST_SECONDS} s of a file are "
            f"read; cut the file into several"
        )


def _s2v_begins(frame: int) -> int:
    return frame * PER_LATENT


def _s2v_track(layers: Sequence[torch.Tensor], fps: float) -> torch.Tensor:
    if fps > S2V_RATE:
        raise ValueError(
            f"the storyboard has {fps:g} frames per second, and Wan 2.2 S2V hears {S2V_RATE} at most; write 16, its own"
        )
    features = nodes_wan.linear_interpolation(torch.cat(list(layers)), FEATURES_RATE, S2V_RATE)  # [layers, T, width]
    frames = math.ceil(features.shape[1] * fps / S2V_RATE)
    return nodes_wan.get_audio_embed_bucket_fps(features, fps=fps, batch_frames=frames, m=0, video_rate=S2V_RATE)[0]


def _s2v_embed(track: torch.Tensor, frames: int) -> torch.Tensor:
    return track.permute(1, 2, 0)[None].contiguous()  # [1, layers, width, 4 F]


def _humo_begins(frame: int) -> int:
    return max(0, frame * PER_LATENT - (PER_LATENT - 1))


def _humo_track(layers: Sequence[torch.Tensor], fps: float) -> torch.Tensor:
    means = [torch.stack(list(layers[first:last])).mean(0) for first, last in HUMO_GROUPS]  # each [1, T, width]
    return torch.stack([nodes_wan.linear_interpolation(mean, FEATURES_RATE, fps)[0] for mean in means], 1)


def _humo_embed(track: torch.Tensor, frames: int) -> torch.Tensor:
    return nodes_wan.get_audio_emb_window(track, _humo_begins(frames), frame0_idx=0)[0][None]  # [1, F, 8, 5, width]


S2V = Form("wav2vec2 large", _s2v_begins, _s2v_track, _s2v_embed)
HUMO = Form("whisper large v3", _humo_begins, _humo_track, _humo_embed, behind=2)
FORMS = {(25, 1024): S2V, (33, 1280): HUMO}  # by layers and width of the encoder's features
