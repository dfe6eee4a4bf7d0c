"""Check what every way of sampling a timeline asks of its plan, its latent and its text before it begins.

A plan is numbers of one family: how many pixel frames share a latent frame, how many channels a latent has. Numbers of
another family may fit by chance, and then nothing stops before the video is wrong.
"""

from collections.abc import Mapping, Sequence

import torch

from ...engine.plan.facts import ModelFacts
from ...engine.plan.timeline import Timeline
from .. import keys
from ..families import facts_of, family_of, hears
from ..types import Entry, ModelPatcher

VIDEO_AXES = 5  # [B, C, F, H, W]


def check_plan(model: ModelPatcher, timeline: Timeline) -> None:
    """Raise ValueError, naming both, unless a timeline was planned for the family and the latents of `model`."""
    planned, own = timeline.facts, facts_of(model)
    if _layout(planned) == _layout(own):
        return
    raise ValueError(
        f"the timeline is planned for {_described(planned)}, and the model is {_described(own)}; wire this model into "
        f"Longreel Plan"
    )


def check_same_family(first: ModelPatcher, second: ModelPatcher) -> None:
    """Raise ValueError, naming both, unless two models are of one family and have the same latents."""
    one, other = facts_of(first), facts_of(second)
    if _layout(one) != _layout(other):
        raise ValueError(
            f"the first model is {_described(one)}, and the second is {_described(other)}; wire the two experts of one "
            f"model"
        )


def _layout(facts: ModelFacts) -> tuple:
    """Return what a plan's numbers depend on."""
    return (facts.family, facts.latent_channels, facts.temporal_stride, facts.spatial_stride, facts.patch_frames)


def _described(facts: ModelFacts) -> str:
    return (
        f"{facts.family} ({facts.latent_channels} latent channels, {facts.temporal_stride} pixel frames and "
        f"{facts.spatial_stride} pixels to a latent one)"
    )


def check_latent(samples: torch.Tensor, facts: ModelFacts) -> None:
    """Raise ValueError unless `samples` are a video's latents [B, C, F, H, W] with the channels of a family, and beside
    them the sound [B, C, T, frequencies] of one that makes it.
    """
    if facts.sound is not None:
        samples = _video_of_pair(samples, facts)
    if samples.is_nested or samples.ndim != VIDEO_AXES:
        found = "nested parts" if samples.is_nested else f"{samples.ndim} axes"
        raise ValueError(
            f"the latent has {found} and a video has {VIDEO_AXES} axes (batch, channels, frames, rows, columns); "
            f"wire a video latent without audio"
        )
    if samples.shape[1] != facts.latent_channels:
        raise ValueError(
            f"the latent has {samples.shape[1]} channels and {facts.family} takes "
            f"{facts.latent_channels}; encode the video with this model's own VAE"
        )


def _video_of_pair(samples: torch.Tensor, facts: ModelFacts) -> torch.Tensor:
    """Return the video of a latent that has sound beside it. Raises ValueError for one that has none, or another."""
    streams = samples.unbind() if samples.is_nested else [samples]
    if len(streams) != 2:
        raise ValueError(
            f"the latent holds {len(streams)} stream{'s' if len(streams) > 1 else ''} and {facts.family} samples 2, "
            f"video and sound; wire the latent output of Longreel Plan, or join both with core's LTXVConcatAVLatent"
        )
    video, sound = streams
    found, wanted = (sound.shape[1], *sound.shape[3:]), (facts.sound.channels, facts.sound.frequencies)
    if found != wanted:
        raise ValueError(
            f"the sound in the latent has {' x '.join(map(str, found))} channels and frequencies and {facts.family} "
            f"takes {' x '.join(map(str, wanted))}; encode it with this model's own audio VAE"
        )
    return video


def check_latent_frames(latent_frames: int, timeline: Timeline) -> None:
    """Raise ValueError unless a latent has as many frames as its timeline."""
    if latent_frames != timeline.latent_frames:
        raise ValueError(
            f"the latent has {latent_frames} frames and the timeline {timeline.latent_frames}; wire the latent output "
            f"of the same Longreel Plan into the sampler"
        )


def check_sound(model: ModelPatcher, entries: Sequence[Entry]) -> None:
    """Raise ValueError, naming the shot, where a network cannot hear the sound of Longreel Encode's entries."""
    told = next((entry[keys.SOUND] for entry in entries if keys.SOUND in entry), None)
    if told is None:
        return
    encoder, shot, file = told
    heard, name = hears(model.model), type(model.model).__name__
    if not heard:
        raise ValueError(
            f"shot {shot + 1}: audio {file} is for Wan 2.2 S2V and HuMo, and this model, {name}, hears nothing; take "
            f"audio out of the storyboard, or load one of these"
        )
    if heard != encoder:
        raise ValueError(
            f"shot {shot + 1}: audio {file} was encoded by {encoder}, and this model, {name}, hears {heard}; load that "
            f"with Load Audio Encoder"
        )


def check_text(model: ModelPatcher, texts: Mapping[str, Sequence[torch.Tensor | None]]) -> None:
    """Raise ValueError where a text [1, tokens, channels] has other channels than the network of `model` reads.

    texts: of each prompt's conditioning entries, by the prompt's name.
    """
    family = family_of(model)
    wanted = family.text_width(model.model.diffusion_model)
    for name, of_entries in texts.items():
        for text in of_entries:
            if text is not None and wanted is not None and text.shape[-1] != wanted:
                raise ValueError(
                    f"the {name} conditioning is text of {text.shape[-1]} channels and this {family.NAME} model reads "
                    f"{wanted}; encode the prompts with the model's own text encoder"
                )
