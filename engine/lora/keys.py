"""Turn the names in a LoRA file into those that ComfyUI's own loader reads.

ComfyUI 0.30 reads Wan and CogVideoX LoRAs under two styles alone, `diffusion_model.<layer>` and `lora_unet_<layer>`
with underscores, and says nothing aloud of those it does not know (docs/anchor.md, The LoRA). Trainers write others:

    diffusers      transformer.blocks.0.attn1.to_q.lora_A.weight              (CogVideoX: transformer_blocks.0...)
    PEFT           base_model.model.blocks.0.self_attn.q.lora_A.default.weight
    bare           blocks.0.self_attn.q.lora_A.weight
    DiffSynth      pipe.dit.blocks.0.self_attn.q.lora_A.default.weight
    underscored    lora_unet__, lora_transformer_, lycoris_ + blocks_0_self_attn_q.lora_down.weight

A LoRA counts alpha / rank. Where a file has no alpha tensors, the alpha of its metadata (diffusers) or of PEFT's
adapter_config.json beside it is written into it, because ComfyUI reads neither. What is done with the tensors is not
known here.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

OWN_PREFIX = "diffusion_model."  # under which ComfyUI's loader knows every layer
DIFFUSERS_METADATA = "lora_adapter_metadata"
PEFT_CONFIG, PEFT_MODEL = "adapter_config.json", "adapter_model.safetensors"  # as PEFT saves them, side by side
LORA_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin")
PREFIXES = (
    "model.diffusion_model.",
    OWN_PREFIX,
    "base_model.model.",
    "pipe.dit.",
    "pipe.dit2.",
    "transformer_2.",
    "transformer.",
    "dit.",
    "module.",
    "model.",
    "unet.",
)
UNDERSCORED = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")

# What trainers call the two halves of a LoRA. A PEFT file may say the adapter's name in the middle.
_PARTS = (
    (
        re.compile(r"\.(?:lora_A|lora_down|lora\.down|lora_linear_layer\.down)(?:\.[^.]+)?\.weight$"),
        ".lora_down.weight",
    ),
    (re.compile(r"\.(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up)(?:\.[^.]+)?\.weight$"), ".lora_up.weight"),
    (re.compile(r"\.(?:lora_A|lora_down)$"), ".lora_down.weight"),
    (re.compile(r"\.(?:lora_B|lora_up)$"), ".lora_up.weight"),
    (re.compile(r"\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?$"), ".dora_scale"),
    (re.compile(r"\.lora_mid\.weight$"), ".lora_mid.weight"),
)
_AS_THEY_ARE = re.compile(r"\.(?:alpha|dora_scale|diff|diff_b|hada_[wt]\d(?:_[ab])?|lokr_(?:w\d(?:_[ab])?|t2))$")

_WAN = (  # diffusers' WanTransformer3DModel -> Wan's own names, which ComfyUI uses
    (r"^blocks\.(\d+)\.attn1\.", r"blocks.\1.self_attn."),
    (r"^blocks\.(\d+)\.attn2\.", r"blocks.\1.cross_attn."),
    (r"_attn\.to_out\.0$", "_attn.o"),
    (r"_attn\.to_([qkv])$", r"_attn.\1"),
    (r"_attn\.add_([kv])_proj$", r"_attn.\1_img"),
    (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
    (r"\.ffn\.net\.2$", ".ffn.2"),
    (r"^condition_embedder\.time_embedder\.linear_1$", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2$", "time_embedding.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^condition_embedder\.text_embedder\.linear_1$", "text_embedding.0"),
    (r"^condition_embedder\.text_embedder\.linear_2$", "text_embedding.2"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj$", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2$", "img_emb.proj.3"),
    (r"^proj_out$", "head.head"),
)
_COGVIDEOX = (  # diffusers' CogVideoXTransformer3DModel -> ComfyUI's names
    (r"^transformer_blocks\.", "blocks."),
    (r"\.attn1\.to_out\.0$", ".attn_out"),
    (r"\.attn1\.to_([qkv])$", r".\1"),
    (r"\.ff\.net\.0\.proj$", ".ff_proj"),
    (r"\.ff\.net\.2$", ".ff_out"),
    (r"^(time|ofs)_embedding\.linear_", r"\1_embedding_linear_"),
)
DIFFUSERS_NAMES = {"Wan": _WAN, "CogVideoX": _COGVIDEOX}  # by the first word of a family's name
# The same for the layers of blocks, backwards.
_BACKWARDS = {
    _WAN: (
        (r"\.(self|cross)_attn\.([qkv])$", r".\1_attn.to_\2"),
        (r"_attn\.o$", "_attn.to_out.0"),
        (r"_attn\.([kv])_img$", r"_attn.add_\1_proj"),
        (r"\.self_attn\.", ".attn1."),
        (r"\.cross_attn\.", ".attn2."),
        (r"\.ffn\.0$", ".ffn.net.0.proj"),
        (r"\.ffn\.2$", ".ffn.net.2"),
    ),
    _COGVIDEOX: (
        (r"^blocks\.", "transformer_blocks."),
        (r"\.([qkv])$", r".attn1.to_\1"),
        (r"\.attn_out$", ".attn1.to_out.0"),
        (r"\.ff_proj$", ".ff.net.0.proj"),
        (r"\.ff_out$", ".ff.net.2"),
    ),
}
EXAMPLES = 3
SHOWN = 120  # characters of a name or a value in a message
MOST_NAME = 1000  # characters; no layer of a network is called more
MOST_ALPHA = 65_536  # 256 times the largest rank that anybody trains
MOST_CONFIG_BYTES = 2**20
CONFIG_REMEDY = "correct it, or give alpha yourself"


@dataclass(frozen=True)
class ConvertedLoRA:
    """This is what `convert` made of a LoRA file. weights: under names that ComfyUI's loader reads. layers: that have
    weights. renamed: tensors whose name has changed. left_out: names in the file that fit no layer. alpha: where the
    strength comes from, in words.
    """

    weights: dict[str, torch.Tensor]
    layers: tuple[str, ...]
    renamed: int
    left_out: tuple[str, ...]
    alpha: str

    def summary(self) -> str:
        said = f"{len(self.layers)} layers, {self.renamed} of {len(self.weights)} tensors renamed, {self.alpha}"
        return said + (f"; {len(self.left_out)} tensors left out, first {self.left_out[0]}" if self.left_out else "")


def convert(
    weights: Mapping[str, torch.Tensor],
    family: str,
    layers: Mapping[str, torch.Size],
    known: Collection[str] = (),
    alpha: float | None = None,
    allow_partial: bool = False,
    alpha_source: str = "",
) -> ConvertedLoRA:
    """Convert a LoRA to the names that ComfyUI reads. weights: of the file. family: of engine/plan/facts. layers:
    {name: shape of the weight [out, in, ...]} of the network. known: names of layers, prefix included, that ComfyUI
    reads as they are. alpha: that counts where the file has no alpha tensors; None: alpha = rank. allow_partial: leave
    out what fits no layer, instead of refusing. alpha_source: where that alpha is said, for the report.

    Raises ValueError, with counts and some of the names, where nothing fits, where only part fits, where two tensors
    get one name, where a half of a LoRA lacks the other, and for shapes of another model.
    """
    names = _underscored(layers, family)
    found: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    left_out: list[str] = []
    fitting: dict[str, list[str]] = {}
    renamed = 0
    for key, value in weights.items():
        layer, part = _split(key)
        if part is None:
            left_out.append(key)
            continue
        if layer in known and not layer.startswith(OWN_PREFIX):
            new, own = layer + part, layer
        else:
            named = _layer(layer, family, layers, names)
            if named is None:
                left_out.append(key)
                continue
            new, own = OWN_PREFIX + named + part, named
            _check_shape(key, value, part, own, layers[own])
        if new in found:
            raise ValueError(
                f"{key} and {origin[new]} are tensors for the same place, {new}; split the file, or load the "
                f"adapter that is wanted alone"
            )
        found[new], origin[new] = value, key
        fitting.setdefault(own, []).append(part)
        renamed += new != key
    _check_fit(weights, left_out, fitting, layers, family, allow_partial)
    _check_halves(fitting)
    found, said = _with_alpha(found, alpha, alpha_source)
    return ConvertedLoRA(found, tuple(fitting), renamed, tuple(left_out), said)


def stated_alpha(metadata: Mapping[str, str] | None, beside: Path | None) -> float | None:
    """Return the alpha of `alpha_and_source` alone."""
    found = alpha_and_source(metadata, beside)
    return None if found is None else found[0]


def alpha_and_source(metadata: Mapping[str, str] | None, beside: Path | None) -> tuple[float, str] | None:
    """Return lora_alpha and where it is said: in a file's metadata, or in the adapter_config.json that belongs to it;
    None where neither says one.

    beside: the LoRA's file, or its folder. The adapter_config.json of a folder belongs to adapter_model.safetensors,
    and otherwise to a LoRA that has the folder to itself: in a folder of many it says nothing of the others.

    Raises ValueError, naming the place, where the JSON is damaged, where alpha is no number above 0, and where some
    layers have alphas of their own, which are not read.
    """
    text, where = (metadata or {}).get(DIFFUSERS_METADATA), "the file's metadata"
    if text is None:
        config = None if beside is None else _config_of(Path(beside))
        if config is None:
            return None
        text, where = _read_config(config), PEFT_CONFIG
    # diffusers writes "transformer.lora_alpha": what is said of the network, not of a text encoder.
    told = {
        key.removeprefix("transformer."): value
        for key, value in _parsed(text, where).items()
        if "." not in key or key.startswith("transformer.")
    }
    pattern = told.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise ValueError(f"{where}: alpha_pattern is {_short(pattern)}, not alphas by layer; {CONFIG_REMEDY}")
    if pattern:
        raise ValueError(
            f"{where} has {len(pattern)} alphas for layers of their own, and one for all "
            f"layers is read; write alpha tensors into the file"
        )
    value = told.get("lora_alpha")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MOST_ALPHA:
        raise ValueError(
            f"{where}: lora_alpha is {_short(value)}, not a number above 0 and up to {MOST_ALPHA:,}; {CONFIG_REMEDY}"
        )
    return float(value), where


def _config_of(beside: Path) -> Path | None:
    """Return the adapter_config.json that belongs to a LoRA file, or to the one LoRA of a folder."""
    folder = beside if beside.is_dir() else beside.parent
    config = folder / PEFT_CONFIG
    if not config.is_file():
        return None
    if beside.name.lower() == PEFT_MODEL:
        return config
    loras = [path for path in folder.iterdir() if path.suffix.lower() in LORA_SUFFIXES]
    return config if len(loras) <= 1 else None


def _read_config(path: Path) -> str:
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise ValueError(
            f"{PEFT_CONFIG} has {path.stat().st_size:,} bytes, and PEFT's has some hundred; {CONFIG_REMEDY}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{PEFT_CONFIG} is no text in UTF-8 ({error.reason}); {CONFIG_REMEDY}") from error


def _parsed(text: str, where: str) -> dict:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where} has {len(text)} characters that are no JSON ({said}); {CONFIG_REMEDY}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{where} is {_short(config)}, not settings by name; {CONFIG_REMEDY}")
    return config


def _short(value: object) -> str:
    """Return a value as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _split(key: str) -> tuple[str, str | None]:
    """Split a tensor's name into (layer, ending that ComfyUI reads), the ending None where it is no LoRA's."""
    for pattern, ending in _PARTS:
        match = pattern.search(key)
        if match:
            return key[: match.start()], ending
    match = _AS_THEY_ARE.search(key)
    return (key[: match.start()], match.group()) if match else (key, None)


def _layer(name: str, family: str, layers: Mapping[str, torch.Size], underscored: Mapping[str, str]) -> str | None:
    """Return the network's own name of a layer, None where there is none."""
    if len(name) > MOST_NAME:
        return None
    for prefix in UNDERSCORED:
        if name.startswith(prefix) and name.removeprefix(prefix) in underscored:
            return underscored[name.removeprefix(prefix)]
    while True:
        own = _of_diffusers(name, family)
        for candidate in (name, own):
            if candidate in layers:
                return candidate
        start = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if start is None:
            return None
        name = name.removeprefix(start)


def _table(family: str) -> tuple:
    return DIFFUSERS_NAMES.get(family.split(maxsplit=1)[0], ())


def _of_diffusers(name: str, family: str) -> str:
    for pattern, replacement in _table(family):
        name = re.sub(pattern, replacement, name)
    return name


def _underscored(layers: Mapping[str, torch.Size], family: str) -> dict[str, str]:
    """Return {a layer's name with underscores for points, its own or diffusers': its own}."""
    found = {name.replace(".", "_"): name for name in layers}
    for name in layers:
        for other in _diffusers_names(name, family):
            found.setdefault(other.replace(".", "_"), name)
    return found


def _diffusers_names(own: str, family: str) -> list[str]:
    """Return what diffusers calls a layer, as far as its name depends on a block; the table is read backwards."""
    name = own
    for pattern, replacement in _BACKWARDS.get(_table(family), ()):
        name = re.sub(pattern, replacement, name)
    return [name] if name != own else []


def _check_shape(key: str, value: torch.Tensor, part: str, layer: str, shape: torch.Size) -> None:
    """Check that a half of a LoRA has the layer's channels on its outer side."""
    inputs = shape[1:].numel() if part == ".lora_down.weight" else None
    outputs = shape[0] if part == ".lora_up.weight" else None
    for side, wanted, given in (
        ("inputs", inputs, value[0].numel() if value.ndim > 1 else 0),
        ("outputs", outputs, value.shape[0] if value.ndim > 1 else 0),
    ):
        if wanted is not None and given != wanted:
            raise ValueError(
                f"{key} has {given} {side} and the model's {layer} has {wanted}; load the LoRA of a model of this size"
            )


def _check_fit(
    weights: Mapping, left_out: list[str], fitting: Mapping, layers: Mapping, family: str, allow_partial: bool
) -> None:
    if not fitting:
        raise ValueError(
            f"none of the {len(weights)} tensors fits one of the {len(layers)} layers of this {family} model; the "
            f"file has {', '.join(_shown(weights)) or 'none'}, and the model layers like "
            f"{', '.join(list(layers)[:EXAMPLES])}: load a LoRA of this model"
        )
    if left_out and not allow_partial:
        raise ValueError(
            f"{len(weights) - len(left_out)} of {len(weights)} tensors fit this {family} model and "
            f"{len(left_out)} do not: {', '.join(_shown(left_out))}; load a LoRA of this model, or turn "
            f"allow_partial on to leave them out"
        )


def _shown(names: Iterable[str]) -> list[str]:
    """Return the first of some names, cut where they are long."""
    return [name if len(name) <= SHOWN else name[:SHOWN] + "..." for name in list(names)[:EXAMPLES]]


def _check_halves(fitting: Mapping[str, list[str]]) -> None:
    halves = ((".lora_down.weight", "lora_down (lora_A)"), (".lora_up.weight", "lora_up (lora_B)"))
    for (one, _), (other, missing) in (halves, halves[::-1]):
        alone = [layer for layer, parts in fitting.items() if one in parts and other not in parts]
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(fitting)} layers lack {missing}, first {alone[0]}; the file is not "
                f"whole: copy it again"
            )


def _with_alpha(
    found: dict[str, torch.Tensor], alpha: float | None, source: str
) -> tuple[dict[str, torch.Tensor], str]:
    """Write `alpha` beside every LoRA that has none."""
    downs = {
        key.removesuffix(".lora_down.weight"): value
        for key, value in found.items()
        if key.endswith(".lora_down.weight")
    }
    told = [layer for layer in downs if f"{layer}.alpha" in found]
    if told:
        return found, f"alpha of the file in {len(told)} layers"
    if alpha is None:
        return found, "no alpha in the file, so it counts as its rank"
    ranks = sorted({value.shape[0] for value in downs.values()})
    return (
        found | {f"{layer}.alpha": torch.tensor(float(alpha)) for layer in downs},
        f"alpha {alpha:g} for rank {' and '.join(map(str, ranks))}{source and f', as {source} says'}",
    )
