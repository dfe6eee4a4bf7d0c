"""The keys of core's containers that the pack reads or writes, by hand, and what finds a key that the list lacks.

Keys are strings, and so nothing resolves them: `unlisted_keys` looks for literals that the pack's code asks of the
variables that hold such containers, `files_with` for the files that name a key, and `known_to_core` for core's.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

from longreel import dev
from tests.comfy_inprocess import find_comfyui

PACKAGES = ("engine", "kernels", "hosts", "nodes", "training", "demo")
CONTAINERS = {"options", "transformer_options", "model_options", "patches"}  # variables that hold what core's keys name
CORE_KEYS = {  # key: (where core has it, what the pack does with it)
    "area": ("a conditioning's options", "refuses masked and cropped prompts in mode joint"),
    "attn1_output_patch": ("transformer_options, patches", "stops a block behind its attention, after others' patches"),
    "attn1_patch": ("transformer_options, patches", "leaves it out where attention is computed a second time"),
    "cond_or_uncond": ("transformer_options", "tells which rows of a batch belong to which prompt"),
    "context_handler": ("model_options", "puts its own windows there, with another node's inside them"),
    "denoise_mask_function": ("model_options", "has Differential Diffusion change the mask of a step"),
    "easycache": ("transformer_options", "finds EasyCache and LazyCache, of which the first is refused"),
    "img_slice": ("transformer_options", "tells where text begins in HunyuanVideo's attention"),
    "noise_sampler": ("extra options of a sampler", "draws noise once per step for all chunks"),
    "optimized_attention_override": ("transformer_options", "chains its tap there, one forward long"),
    "patches": ("transformer_options", "adds and removes patches of attention in HunyuanVideo's blocks"),
    "rope_options": ("transformer_options", "reads how Wan's positions in time are shifted"),
    "sample_sigmas": ("transformer_options", "counts a sampler's steps"),
    "sigmas": ("transformer_options", "gives the network a sigma where a trainer calls it"),
    "transformer_options": ("model_options", "carries all of the above, and the pack's own keys (hosts/keys.py)"),
    "uuids": ("transformer_options", "tells which entry of a conditioning a row of a batch is"),
    "wrappers": (
        "transformer_options",
        "adds wrappers for one call of a sampler, and merges a trainer's with a model's",
    ),
}


def sources() -> list[Path]:
    """Return the Python files that users get, without tests and tools."""
    return sorted(
        [dev.ROOT / "__init__.py", *(path for package in PACKAGES for path in (dev.ROOT / package).rglob("*.py"))]
    )


def place(path: Path) -> str:
    return path.relative_to(dev.ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all that is in a file's tree: to walk there takes longer than to read it."""
    return tuple(ast.walk(tree(path)))


@cache
def strings(path: Path) -> frozenset[str]:
    return frozenset(
        node.value for node in nodes(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def read_keys(path: Path) -> set[str]:
    """Return the literal keys that a file asks of CONTAINERS."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Subscript):
            holder, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr not in ("get", "pop", "setdefault"):
                continue
            holder, key = node.func.value, node.args[0]
        else:
            continue
        name = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", None)
        if name in CONTAINERS and isinstance(key, ast.Constant) and isinstance(key.value, str):
            found.add(key.value)
    return found


def unlisted_keys() -> dict[str, str]:
    """Return the keys that the pack asks of core's containers and CORE_KEYS lacks, with a file of each."""
    return {key: place(path) for path in sources() for key in read_keys(path) if key not in CORE_KEYS}


@cache
def files_with(key: str) -> list[str]:
    return [place(path) for path in sources() if key in strings(path)]


def known_to_core(keys: Collection[str]) -> set[str]:
    """Return those of `keys` that core's own code names, as a string or as an argument."""
    found: set[str] = set()
    for folder in ("comfy", "comfy_extras"):
        for path in (find_comfyui() / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            found |= {key for key in keys if f'"{key}"' in text or f"'{key}'" in text or f"{key}=" in text}
    return found
