"""The model families: one file of facts each, and what can be asked of all of them.

family is what each of wan, cogvideox, hunyuan_video, ltxv, ltxav and kandinsky says of itself, sites the words that
they say it in; video_tokens has what trained memories do at these places, clone what is done to a MODEL of each.
`facts_of(model)` says which family a MODEL is; everything else in hosts/ works for any of them.
"""

import logging
import math
from collections.abc import Sequence

from ...engine.plan.facts import ModelFacts
from ...engine.plan.sound import SoundPlan
from ..types import BaseModel, ModelPatcher, Network
from . import cogvideox, hunyuan_video, kandinsky, ltxav, ltxv, wan
from .family import Family
from .picture_channels import PictureChannels

FAMILIES: tuple[Family, ...] = (wan, cogvideox, hunyuan_video, ltxv, ltxav, kandinsky)
_named: set[type] = set()  # classes that the log has named already


def facts_of(model: ModelPatcher) -> ModelFacts:
    """Return the facts of a ModelPatcher's family. Raises ValueError, naming the model's class, for an unsupported
    one.
    """
    return family_of(model).facts(model.model)


def usual_facts() -> dict[str, ModelFacts]:
    """Return the facts of every family's usual checkpoints by name, in the order in which people are shown them."""
    return {facts.family: facts for family in FAMILIES for facts in family.FACTS}


def family_of(model: ModelPatcher) -> Family:
    """Return the file of this folder that knows the family of a ModelPatcher. Raises ValueError as `facts_of` does."""
    for family in FAMILIES:
        if family.facts(model.model) is not None:
            _name_unknown(family, type(model.model))
            return family
    raise ValueError(
        f"{type(model.model).__name__} is not a video model that Longreel supports; load one of "
        f"{', '.join(family.NAME for family in FAMILIES)}"
    )


def _name_unknown(family: Family, of_model: type) -> None:
    """Say in the log, once, that a MODEL's class is none that was tested, and what it is taken for."""
    if of_model in family.TESTED or of_model in _named:
        return
    _named.add(of_model)
    logging.warning(
        "%s is not known to Longreel: it is sampled as %s, on which it is built, and what else it needs is not; "
        "compare with ComfyUI's own sampler before you rely on it",
        of_model.__name__,
        family.NAME,
    )


def leads_with_reference(model: BaseModel) -> bool:
    """Return whether a reference picture takes a latent frame of its own in front of the video's."""
    return wan.leads_with_reference(model)


def motion_frames(model: BaseModel) -> int:
    """Return how many finished latent frames in front of a window the network reads as such, beside its latent."""
    return wan.motion_frames(model)


def hears(model: BaseModel) -> str:
    """Return the encoder whose features of a sound the network hears; "" where it hears nothing."""
    return wan.hears(model)


def leading_tokens(family: Family, network: Network, args: tuple, kwargs: dict) -> int:
    """Return how many tokens of reference pictures a forward has in front of the video's, in one sequence with it."""
    own = {wan: wan.leading_tokens, hunyuan_video: hunyuan_video.leading_tokens}.get(family)
    return 0 if own is None else own(network, args, kwargs)


def plain_family_of(network: Network) -> Family | None:
    """Return the family whose plain network this is; None for what is built on one, or another network."""
    return next((family for family in FAMILIES if type(network) is family.NETWORK), None)


def refuse_sound(model: ModelPatcher, what: str) -> None:
    """Raise ValueError, naming `what`, for a model of a family that makes sound beside its video."""
    facts = facts_of(model)
    if facts.sound is not None:
        raise ValueError(
            f"{what} works on video alone, and {facts.family} makes video and sound together; use it with a silent "
            f"model, such as LTXV"
        )


def core_shape(model: BaseModel, shape: Sequence[int]) -> list[int]:
    """Return the shape by which core reckons the memory of a video latent [B, C, F, H, W].

    Of a family with sound it is that of all numbers packed in one row; seconds are those of its usual frame rate.
    """
    facts = next((found for family in FAMILIES if (found := family.facts(model)) is not None), None)
    if facts is None or facts.sound is None:
        return list(shape)
    sound = SoundPlan(facts, facts.sound, facts.native_fps).shape(shape[2])
    return [shape[0], 1, math.prod(shape[1:]) + math.prod(sound)]


def picture_channels_of(model: BaseModel) -> PictureChannels | None:
    """Return the channels in which an image-to-video network is shown known frames; None where it has none."""
    family = next((family for family in FAMILIES if family.facts(model) is not None), None)
    return None if family is None else family.picture_channels(model)


def block_count(model: ModelPatcher) -> int:
    """Return how many transformer blocks a ModelPatcher's network has."""
    return 1 + max(site.block for site in family_of(model).sites(model.model.diffusion_model))
