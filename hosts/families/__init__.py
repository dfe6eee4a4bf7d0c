"""The model families: one file of facts each, and what can be asked of all of them.

wan, cogvideox, hunyuan_video and ltxv say what planning must know, where attention happens and where tokens stand. sites
holds the words they use for it, video_tokens where trained memories enter. `facts_of(model)` says which family a MODEL is;
everything else in hosts/ works for any of them.
"""

from ...engine.plan.facts import ModelFacts
from . import cogvideox, hunyuan_video, ltxv, wan

FAMILIES = (wan, cogvideox, hunyuan_video, ltxv)


def facts_of(model) -> ModelFacts:
    """Facts of a ModelPatcher's family; raises ValueError, naming the model's class, for one that is not supported."""
    return family_of(model).facts(model.model)


def family_of(model):
    """The file of this folder that knows the family of a ModelPatcher; raises ValueError as `facts_of` does."""
    for family in FAMILIES:
        if family.facts(model.model) is not None:
            return family
    raise ValueError(
        f"{type(model.model).__name__} is not a video model that Longreel supports; load one of "
        f"{', '.join(family.NAME for family in FAMILIES)}"
    )


def block_count(model) -> int:
    """Transformer blocks of a ModelPatcher's network."""
    return 1 + max(site.block for site in family_of(model).sites(model.model.diffusion_model))
