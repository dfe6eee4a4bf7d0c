"""The only package that imports ComfyUI. One file per model family holds its facts; the others sample and decode.

`facts_of(model)` says which family a MODEL is and what planning must know of it; everything else works for any family.
"""

from ..engine.plan.facts import ModelFacts
from . import standalone

standalone.prepare()  # before the first `import comfy`

from .families import cogvideox, hunyuan_video, ltxv, wan  # noqa: E402

FAMILIES = (wan, cogvideox, hunyuan_video, ltxv)


def facts_of(model) -> ModelFacts:
    """`model` is a ModelPatcher. Raises ValueError, naming the model's class, for a family that is not supported."""
    return family_of(model).facts(model.model)


def family_of(model):
    """The file of this folder that knows the model's family. `model` is a ModelPatcher; raises ValueError as above."""
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
