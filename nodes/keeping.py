"""The inputs that say where, and how, a node keeps keys and values. Old workflows that lack them go on as before."""

from comfy_api.latest import io

from ..engine.plan.needs import AUTO, FORMS, FULL, PLACES, Keep


def keep_inputs(whose: str) -> list[io.Combo.Input]:
    """Return the advanced inputs `kept_in` and `kept_as` of a node that keeps `whose` keys and values."""
    return [
        io.Combo.Input(
            "kept_in",
            options=list(PLACES),
            default=AUTO,
            optional=True,
            advanced=True,
            tooltip=(
                f"Where {whose} keys and values are kept. auto: on the card while they fit beside the model, else in "
                f"main memory. main memory: they come back layer by layer, ahead of their use; the result is the same."
            ),
        ),
        io.Combo.Input(
            "kept_as",
            options=list(FORMS),
            default=FULL,
            optional=True,
            advanced=True,
            tooltip=(
                "full: as the model made them. 8-bit: in half the memory of bfloat16, with a scale for each token and "
                "head; the result differs a little."
            ),
        ),
    ]


def keep_of(kept_in: str = AUTO, kept_as: str = FULL, keep_every: int = 1) -> Keep:
    """Return what these inputs ask for."""
    return Keep(kept_in, kept_as, keep_every)
