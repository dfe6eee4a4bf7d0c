"""Put onto a second expert what Longreel's nodes have put onto the first (Wan 2.2 14B has two networks of one kind).

Carried are features (KV Share, Prompt Edit, memories without training), anchors and Latent Blend: settings that suit
any network of the kind. What was trained for one network stays with it: TTT layers and trained memories are refused by
name, because a video of which one expert alone has them is not what they were trained for; LoRAs are not carried, and
`pair` says so, because each expert usually has its own.
"""

from .. import keys
from ..anchor import frame as anchor_frame
from ..attention import patching
from ..attention.feature import Feature
from ..families import block_count
from ..features import prompt_edit
from ..memory import short_memory
from ..types import ModelPatcher
from ..windows import latent_blend
from ..windows.checks import check_same_family

OF_ONE_NETWORK = {keys.TTT_LAYERS: "TTT layers", keys.CAM: "a trained CAM", keys.APM: "a trained APM"}
LATENT_BLEND = "Longreel Latent Blend"


def pair(first: ModelPatcher, second: ModelPatcher) -> tuple[ModelPatcher, str]:
    """Return (a clone of `second` with what `first` carries, what was carried and what was not).

    Raises ValueError for models of two kinds, for what belongs to one network, and for a second model that carries
    something of its own already.
    """
    _check(first, second)
    carried = [feature.name for feature in features_of(first)]
    paired = second.clone()
    for feature in features_of(first):
        paired = _attach(paired, feature)
    if anchors := anchor_frame.anchors_of(first):
        paired = anchor_frame.attach(paired, anchors)
        carried.append(f"{len(anchors)} anchors ({anchor_frame.NAME})")
    handler = first.model_options.get("context_handler")
    if isinstance(handler, latent_blend.TimelineHandler):
        paired = latent_blend.attach(paired, handler.timeline, handler.blend, handler.seed, handler.lead_frame)
        carried.append(LATENT_BLEND)
    return paired, "\n".join(_report(first, second, carried))


def features_of(model: ModelPatcher) -> tuple[Feature, ...]:
    """Return the features that a MODEL carries."""
    return patching.features_of(model.model_options)


def unlike(first: ModelPatcher, second: ModelPatcher) -> str | None:
    """Return a line that names the features which one of two experts lacks; None where both have the same."""
    names = [[feature.name for feature in features_of(one)] for one in (first, second)]
    if names[0] == names[1]:
        return None
    one, other = (" and ".join(some) or "nothing of Longreel's" for some in names)
    return f"note: model carries {one}, and low_noise_model {other}; Longreel Pair gives both the same"


def _check(first: ModelPatcher, second: ModelPatcher) -> None:
    check_same_family(first, second)
    counts = [block_count(one) for one in (first, second)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"the first model has {counts[0]} blocks and the second {counts[1]}, so their features are not the same; "
            f"wire the two experts of one model"
        )
    own = [name for model in (first, second) for key, name in OF_ONE_NETWORK.items() if key in _options(model)]
    if own:
        raise ValueError(
            f"one of the models carries {own[0]}, and what was trained for one network cannot be carried onto another; "
            f"wire the node that adds it behind Longreel Pair, one for each expert"
        )
    found = [feature.name for feature in features_of(second)]
    found += [anchor_frame.NAME] * bool(anchor_frame.anchors_of(second))
    found += [LATENT_BLEND] * isinstance(second.model_options.get("context_handler"), latent_blend.TimelineHandler)
    if found:
        raise ValueError(
            f"the second model carries {found[0]} already, and is given what the first one carries; wire it from "
            f"before that node"
        )


def _options(model: ModelPatcher) -> dict:
    return model.model_options["transformer_options"]


def _attach(model: ModelPatcher, feature: Feature) -> ModelPatcher:
    """Return a clone with one more feature, by the file that knows what else goes with it."""
    if isinstance(feature, prompt_edit.PromptEdit):
        return prompt_edit.attach(model, feature)
    if isinstance(feature, (short_memory.KnownFrames, short_memory.KeysAndValues)):
        return short_memory.attach(model, feature)
    return patching.attach(model, feature)


def _report(first: ModelPatcher, second: ModelPatcher, carried: list[str]) -> list[str]:
    lines = [f"carried onto the second model: {', '.join(carried)}"]
    if not carried:
        lines = [
            "nothing is carried: the first model has no feature of Longreel; wire this node behind one that adds it"
        ]
    patched = [len(one.patches) for one in (first, second)]
    if patched[0]:
        lines.append(
            f"not carried: the first model's LoRAs and other patches, of {patched[0]} weights; the second model has "
            f"patches of {patched[1]} of its own"
        )
    return lines
