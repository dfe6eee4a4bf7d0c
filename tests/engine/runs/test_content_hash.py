"""engine/runs/content_hash.py: equal content has equal hashes, other content others, the rest is refused."""

import enum
import itertools
import math
import struct
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass, field, make_dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.runs.content_hash import content_hash

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
keys = st.integers() | st.text() | st.binary()
nested = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.frozensets(keys, max_size=4)
    ),
    max_leaves=12,
)
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.bool,
    torch.complex64,
]


@dataclass
class Settings:
    strength: float
    layers: tuple = ()
    note: str = field(default="", compare=False, repr=False)


def canonical(value):
    """What the docstring says counts, spelled so that == compares it."""
    kind = type(value)
    if kind is float:
        return "float", struct.pack("<d", value)
    if kind in (list, tuple):
        return "sequence", tuple(map(canonical, value))
    if kind is frozenset:
        return "set", frozenset(map(canonical, value))
    if kind is dict:
        return "dict", frozenset((canonical(key), canonical(item)) for key, item in value.items())
    return kind.__name__, value


@settings(max_examples=300, deadline=None)
@given(nested, nested)
def test_hashes_are_equal_exactly_where_the_content_is(one, other):
    assert (content_hash(one) == content_hash(other)) == (canonical(one) == canonical(other))


@settings(max_examples=100, deadline=None)
@given(nested)
def test_a_hash_is_64_hexadecimal_digits_and_the_same_again(value):
    first = content_hash(value)
    assert len(first) == 64 and set(first) <= set("0123456789abcdef")
    assert content_hash(value) == first


DIFFERENT = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**70,
    0.0,
    -0.0,
    1.0,
    math.inf,
    "",
    "1",
    "None",
    "é",
    "e\u0301",
    "\ud800",
    b"",
    b"1",
    [],
    [[]],
    [[], []],
    [1, 2],
    [2, 1],
    [12],
    ["ab", "c"],
    ["a", "bc"],
    {},
    {1: 2},
    {2: 1},
    {"1": 2},
    {1: {2: 3}},
    {1: 2, 3: 4},
    {1: 4, 3: 2},
    frozenset(),
    frozenset({1}),
    frozenset({1, 2}),
    Settings(1.0),
    Settings(0.5),
    Settings(1.0, (1,)),
    Settings(1.0, (), "x"),
    {"strength": 1.0, "layers": (), "note": ""},
    [1.0, (), ""],
    torch.zeros(0),
    torch.zeros(0, 1),
    torch.zeros(()),
    torch.zeros(1),
    torch.zeros(2),
    torch.zeros(1, 2),
    torch.zeros(2, 1),
    torch.tensor([0.0, -0.0]),
    torch.tensor([0.0, 1.0]),
    torch.tensor([1.0, 0.0]),
    [0.0, 0.0],
]


def test_what_differs_has_another_hash():
    for one, other in itertools.combinations(DIFFERENT, 2):
        assert content_hash(one) != content_hash(other), (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, (2, 3)], (1, [2, 3])),
        ({1: 2, "a": 4}, {"a": 4, 1: 2}),
        (frozenset({"a", "b", 3}), {3, "b", "a"}),
        (Settings(1.0, [2]), Settings(1.0, (2,))),
        (torch.zeros(2), torch.nn.Parameter(torch.zeros(2))),
        (float("nan"), float("nan")),
        (torch.tensor([math.nan]), torch.tensor([math.nan])),
    ],
)
def test_what_counts_as_the_same_has_the_same_hash(one, other):
    assert content_hash(one) == content_hash(other)


def test_a_dataclass_counts_without_its_module():
    other = make_dataclass("Settings", ["note", "strength", "layers"])
    other.__module__ = "elsewhere"
    assert content_hash(other("", 1.0, ())) == content_hash(Settings(1.0))
    assert content_hash(make_dataclass("Setting", ["strength"])(1.0)) != content_hash(
        make_dataclass("Settings", ["strength"])(1.0)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_dtype_count_by_dtype_shape_and_bytes(dtype):
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    assert content_hash(tensor) == content_hash(tensor.clone())
    assert content_hash(tensor) != content_hash(tensor.reshape(3, 2))
    assert content_hash(tensor) != content_hash(tensor.flip(0))
    real = tensor.real if dtype.is_complex else tensor
    assert len({content_hash(real.to(other)) for other in DTYPES}) == len(DTYPES)


def test_strides_views_and_lazy_conjugates_do_not_count():
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    assert content_hash(tensor.transpose(0, 2)) == content_hash(tensor.transpose(0, 2).contiguous())
    assert content_hash(tensor[1:]) == content_hash(tensor[1:].clone())
    assert content_hash(tensor[:1].expand(5, 3, 4)) == content_hash(tensor[:1].repeat(5, 1, 1))
    complex_numbers = torch.tensor([1 + 2j, 3 - 1j])
    assert content_hash(complex_numbers.conj()) == content_hash(torch.tensor([1 - 2j, 3 + 1j]))
    assert content_hash(complex_numbers.conj().imag) == content_hash(torch.tensor([-2.0, 1.0]))


def test_one_bit_of_a_large_tensor_counts():
    tensor = torch.zeros(100_000, dtype=torch.bfloat16)
    before = content_hash(tensor)
    tensor.view(torch.uint8)[77_777] = 1
    assert content_hash(tensor) != before


def test_hashing_leaves_the_tensor_as_it_was():
    tensor = torch.arange(6.0, requires_grad=True)
    content_hash(tensor)
    assert tensor.requires_grad and torch.equal(tensor, torch.arange(6.0))


class Level(enum.IntEnum):
    LOW = 1


class Quantized(torch.Tensor):
    """As core's: what it means is not in its bytes alone."""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), r"settings is of type builtins.object, which has no content hash; give its plain values or tensors"),
        ({"a": [1, print]}, r"settings\['a'\]\[1\] is of type builtins.builtin_function_or_method"),
        ({(1, print): 2}, r"settings, key .*\[1\] is of type builtins.builtin_function_or_method"),
        (Settings(1.0, (object(),)), r"settings.layers\[0\] is of type builtins.object"),
        (Settings, "is of type builtins.type"),
        (Level.LOW, "is of type .*Level"),
        (OrderedDict(a=1), "is of type collections.OrderedDict"),
        (1j, "builtins.complex"),
        (torch.zeros(2).numpy(), "is of type numpy.ndarray"),
        (torch.zeros(2).numpy()[0], "is of type numpy.float32"),
        (torch.float32, "is of type torch.dtype"),
        (torch.zeros(2).as_subclass(Quantized), "is of type .*Quantized"),
        (
            [torch.zeros(2).to_sparse()],
            r"settings\[0\] is a tensor of layout torch.sparse_coo, dtype torch.float32, on cpu",
        ),
        (torch.zeros(2, device="meta"), "on meta, which has no content hash; give a dense tensor with numbers"),
    ],
    ids=lambda value: "",
)
def test_what_has_no_content_is_refused_by_type_and_place(value, says):
    with pytest.raises(TypeError, match=says):
        content_hash(value, "settings")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_tensors_whose_numbers_are_not_their_bytes_are_refused():
    with pytest.raises(TypeError, match="dtype torch.qint8, on cpu, which has no content hash"):
        content_hash(torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8))


@pytest.mark.slow
def test_the_hash_is_the_same_in_another_process_and_in_a_year():
    code = (
        "from longreel.engine.runs.content_hash import content_hash; import torch;"
        "print(content_hash([{'b': 2, 'a': frozenset('xyz')}, torch.arange(3, dtype=torch.bfloat16), None, 0.5]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = content_hash([{"a": frozenset("xyz"), "b": 2}, torch.arange(3, dtype=torch.bfloat16), None, 0.5])
    assert said == {here} == {"5ccab0d4cf8cca40c746d3358f55ac3b21990fca73092a80db039e2c69c9fdf6"}
