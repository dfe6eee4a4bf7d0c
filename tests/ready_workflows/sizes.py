"""The sizes of the small text encoders; text is as wide as the tiny networks of tests/tiny_models.py read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WIDTH = 32
T5 = {"d_model": WIDTH, "d_ff": 32, "d_kv": 16, "num_heads": 2, "num_layers": 1}
LLAMA = {  # by its 4 heads of keys, 128 wide, core tells Qwen
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
BYT5 = {"num_layers": 1, "d_ff": 32}


def model_options() -> dict[str, Any]:
    """Return what core's encoders ask for their sizes, by core's names."""
    return {
        "t5xxl_model_config": dict(T5),
        "umt5xxl_model_config": {**T5, "vocab_size": 512},
        "qwen25_7b_model_config": dict(LLAMA),
        "_model_config": dict(BYT5),  # core gives it no name
    }


@contextmanager
def without_eyes() -> Iterator[None]:
    """Leave out Qwen's vision tower while encoders are built: 2 GB that see no picture here."""
    from comfy.text_encoders import llama

    eyes = llama.qwen_vl.Qwen2VLVisionTransformer
    llama.qwen_vl.Qwen2VLVisionTransformer = lambda **sizes: torch.nn.Identity()
    try:
        yield
    finally:
        llama.qwen_vl.Qwen2VLVisionTransformer = eyes
