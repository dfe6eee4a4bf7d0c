"""Whether weights that were trained beside one network belong to another: TTT layers, CAM and APM alike."""

from comfy.model_patcher import ModelPatcher

from ..families import block_count, facts_of, family_of


def check_fit(model: ModelPatcher, what: str, *, family: str, width: int, blocks: int) -> None:
    """Raise ValueError unless `model` is of the family, channels and number of blocks that weights were trained for.

    what: begins the message, "this CAM was" or "these TTT layers were".
    """
    found = facts_of(model).family
    if family != found:
        raise ValueError(f"{what} trained for {family} and this model is {found}; load the file of this model")
    own_width = family_of(model).width(model.model.diffusion_model)
    for kind, theirs, own in (("channels", width, own_width), ("blocks", blocks, block_count(model))):
        if theirs != own:
            raise ValueError(
                f"{what} trained for {theirs} {kind} and this model has {own}; load the file of this model"
            )
