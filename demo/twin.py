"""The demo model's networks in the form that trains fast, with the weights of a folder as ComfyUI loads them.

Each network's size is read off its weights, so shape world's model and the picture book's both fit. Nothing here is
trained: what is loaded asks for no gradients. For sampling the product uses ComfyUI's networks (hosts/demo_model.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import dit_net, text_encoder, vae_net

WEIGHTS = Path(__file__).parent / "weights"
TRANSFORMER, TEXT, VAE = "shapeworld_t2v.safetensors", "shapeworld_text.safetensors", "shapeworld_vae.safetensors"
PARTS = {"dit.": TRANSFORMER, "text.": TEXT}  # how the weights of both begin where they are trained together


def read(file: Path) -> dict[str, torch.Tensor]:
    """The weights of a file in float32."""
    return {name: weight.float() for name, weight in load_file(file).items()}


def transformer(folder: Path = WEIGHTS) -> dit_net.DiT:
    """The transformer of a folder."""
    weights = read(folder / TRANSFORMER)
    with safe_open(folder / TRANSFORMER, "pt") as file:
        heads = json.loads(file.metadata()["config"])["transformer"]["num_heads"]
    ffn_width, width = weights["blocks.0.ffn.0.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    text_width = weights["text_embedding.0.weight"].shape[1]
    network = dit_net.DiT(width, ffn_width, heads, layers, text_width)
    network.load_state_dict(weights)
    return network.requires_grad_(False)


def write(folder: Path, weights: Mapping[str, torch.Tensor], heads: int, more: Mapping[str, str] | None = None) -> None:
    """Write the transformer and the text encoder, trained together, in float16 as ComfyUI loads them; `more` is
    metadata beside what it reads."""
    text_width = weights["dit.text_embedding.0.weight"].shape[1]
    config = {"transformer": {"num_heads": heads, "text_dim": text_width}}
    metadata = {"config": json.dumps(config), **(more or {})}
    for part, file in PARTS.items():
        state = {name.removeprefix(part): w.half().contiguous() for name, w in weights.items() if name.startswith(part)}
        save_file(state, folder / file, metadata=metadata)


def text(folder: Path = WEIGHTS) -> text_encoder.TextEncoder:
    """The text encoder of a folder; its vocabulary is that of its rows (text_encoder.vocabulary_of)."""
    weights = read(folder / TEXT)
    encoder = text_encoder.TextEncoder(*weights["embedding.weight"].shape)
    encoder.load_state_dict(weights)
    return encoder.requires_grad_(False)


def knows_picture_book(encoder: text_encoder.TextEncoder) -> bool:
    """Whether a model with this text encoder was made for the picture book, and not for shape world alone."""
    return encoder.embedding.num_embeddings == text_encoder.BOOK_ROWS


def token_ids(encoder: text_encoder.TextEncoder, prompts: list[str]) -> torch.Tensor:
    """[B, L] int64, padded to one length, in the rows of this encoder."""
    vocabulary = text_encoder.vocabulary_of(encoder.embedding.num_embeddings)
    return torch.tensor([vocabulary.tokenize(prompt).padded() for prompt in prompts])


def vae(file: Path = WEIGHTS / VAE) -> vae_net.VAE:
    """The VAE of a file."""
    weights = read(file)
    network = vae_net.VAE(weights["decoder.head.2.weight"].shape[1]).eval().requires_grad_(False)
    network.load_state_dict(weights)
    return network
