"""Hash contents: 64 hexadecimal digits that are equal where two values are, on every machine and in every process.

A finished chunk is kept under a hash of everything that it depends on (docs/design.md, Runs that survive). It is a
sha256 over the kind and the content of a value and of all that is nested in it. Python's own hash() differs from
process to process and pickles differ between versions, so neither is used, and what is not listed in `content_hash` is
refused. What the values mean is not known here.
"""

import dataclasses
import hashlib
import struct
from typing import Any

import torch

VERSION = b"longreel content hash 1"


def content_hash(value: object, name: str = "value") -> str:
    """Return the sha256 of `value` as 64 hexadecimal digits.

    value: None, bool, int, float, str, bytes, torch tensors of any dtype and device, and lists, tuples, sets,
    frozensets, dicts and dataclasses of them. A list and a tuple of the same content are the same, the order of a dict
    or a set is none, 1, 1.0 and True are three values. Tensors are the same if dtype, shape and bytes are: strides and
    device do not count, the bits of a NaN and the sign of a zero do. A dataclass counts by its class's name and its
    fields, without the module, because ComfyUI loads the pack under a name that depends on its folder.
    name: what errors call the value.

    Raises TypeError for everything else, subclasses of these kinds included, naming the type and the place in `value`.
    """
    return hashlib.sha256(VERSION + _digest(value, name)).hexdigest()


def _digest(value: Any, place: str) -> bytes:
    kind = type(value)
    if value is None or kind is bool:
        return _hashed(repr(value).encode())
    if kind is int:
        return _hashed(b"int", str(value).encode())
    if kind is float:
        return _hashed(b"float", struct.pack("<d", value))
    if kind is str:
        return _hashed(b"str", value.encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return _hashed(b"bytes", value)
    if kind in (torch.Tensor, torch.nn.Parameter):
        return _tensor_digest(value, place)
    if kind in (list, tuple):
        return _hashed(b"sequence", *(_digest(item, f"{place}[{number}]") for number, item in enumerate(value)))
    if kind in (set, frozenset):
        return _hashed(b"set", *sorted(_digest(item, f"{place}{{{item!r}}}") for item in value))
    if kind is dict:
        entries = [
            _digest(key, f"{place}, key {key!r}") + _digest(item, f"{place}[{key!r}]") for key, item in value.items()
        ]
        return _hashed(b"dict", *sorted(entries))
    if dataclasses.is_dataclass(kind):
        entries = [
            _hashed(field.name.encode()) + _digest(getattr(value, field.name), f"{place}.{field.name}")
            for field in dataclasses.fields(value)
        ]
        return _hashed(b"dataclass", kind.__qualname__.encode(), *sorted(entries))
    raise TypeError(
        f"{place} is of type {kind.__module__}.{kind.__qualname__}, which has no content hash; give its plain "
        f"values or tensors"
    )


def _tensor_digest(tensor: torch.Tensor, place: str) -> bytes:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise TypeError(
            f"{place} is a tensor of layout {tensor.layout}, dtype {tensor.dtype}, on {tensor.device}, which "
            f"has no content hash; give a dense tensor with numbers"
        )
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    content = plain.view(torch.uint8).numpy() if plain.numel() else b""
    shape = struct.pack(f"<{tensor.ndim}q", *tensor.shape)
    return _hashed(b"tensor", str(tensor.dtype).encode(), shape, content)


def _hashed(*parts) -> bytes:
    """Hash each part with its length, so that no two lists of parts feed the same bytes."""
    digest = hashlib.sha256(struct.pack("<q", len(parts)))
    for part in parts:
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return digest.digest()
