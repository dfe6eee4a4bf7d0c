"""The model families: one file of facts each, and what can be asked of all of them.

family is what each of wan, cogvideox, hunyuan_video and ltxv says of itself, sites the words that they say it in;
video_tokens has what trained memories do at these places. `facts_of(model)` says which family a MODEL is; everything
else in hosts/ works for any of them.
"""

from ...engine.plan.facts import ModelFacts
from ..types import BaseModel, ModelPatcher, Network
from . import cogvideox, hunyuan_video, ltxv, wan
from .family import Family
from .picture_channels import PictureChannels

FAMILIES: tuple[Family, ...] = (wan, cogvideox, hunyuan_video, ltxv)


def facts_of(model: ModelPatcher) -> ModelFacts:
    """Return the facts of a ModelPatcher's family. Raises ValueError, naming the model's class, for an unsupported
    one.
    """
    return family_of(model).facts(model.model)


def family_of(model: ModelPatcher) -> Family:
    """Return the file of this folder that knows the family of a ModelPatcher. Raises ValueError as `facts_of` does."""
    for family in FAMILIES:
        if family.facts(model.model) is not None:
            return family
    raise ValueError(
        f"{type(model.model).__name__} is not a video model that Longreel supports; load one of "
        f"{', '.join(family.NAME for family in FAMILIES)}"
    )


def plain_family_of(network: Network) -> Family | None:
    """Return the family whose plain network this is; None for what is built on one, or another network."""
    return next((family for family in FAMILIES if type(network) is family.NETWORK), None)


def picture_channels_of(model: BaseModel) -> PictureChannels | None:
    """Return the channels in which an image-to-video network is shown known frames; None where it has none."""
    family = next((family for family in FAMILIES if family.facts(model) is not None), None)
    return None if family is None else family.picture_channels(model)


def block_count(model: ModelPatcher) -> int:
    """Return how many transformer blocks a ModelPatcher's network has."""
    return 1 + max(site.block for site in family_of(model).sites(model.model.diffusion_model))
