"""kernels/gelu_assembly.py: the text that GPUs assemble, run here instruction by instruction in float16."""

import re

import pytest
import torch

from longreel.kernels import gelu_assembly

TANH_ERROR = 2**-11  # of tanh.approx.f16x2, by the PTX manual


def halves(number: str) -> torch.Tensor:
    """0x44004400 -> 4 as float16, where both halves are the same."""
    high, low = int(number[2:6], 16), int(number[6:], 16)
    assert high == low, number
    return torch.tensor([low], dtype=torch.int32).to(torch.int16).view(torch.float16)


def run(text: str, z: torch.Tensor, rounds: float = 0.0) -> list[torch.Tensor]:
    """What the assembly makes of z [N] in float32, whose neighbours are pairs; a pair's register is two float16 here.

    rounds: times TANH_ERROR, is added to tanh. Every instruction computes in float64 and rounds once.
    """
    registers: dict[str, torch.Tensor] = {}
    outputs = len(set(re.findall(r"\$[01](?=,)", text.replace("$1, $2;", "")))) if "$3" in text else 1
    places = {f"${outputs + i}": z[i::2] for i in range(2)}
    found: dict[str, torch.Tensor] = {}
    for line in (part.strip() for part in text.strip("{} \n").split(";") if part.strip()):
        if line.startswith(".reg"):
            continue
        name, *operands = re.split(r"[ ,{}]+", line.rstrip("}"))
        operands = [x for x in operands if x]
        target, *rest = operands

        def value(x: str) -> torch.Tensor:
            if x.startswith("0x"):
                return halves(x).double()
            return places[x].double() if x in places else registers[x].double()

        if name == "cvt.rn.f16x2.f32":
            pair = torch.stack([value(rest[1]), value(rest[0])], 1).flatten()
            result = pair.half()
        elif name == "mov.b32" and len(operands) == 3:  # {low, high}, x
            registers["low"], registers["high"] = value("x")[0::2].half(), value("x")[1::2].half()
            continue
        elif name == "mov.b32":
            result = value(rest[0]).half()
        elif name in ("max.NaN.f16x2", "min.NaN.f16x2"):
            result = {"max": torch.maximum, "min": torch.minimum}[name[:3]](value(rest[0]), value(rest[1])).half()
        elif name == "mul.rn.f16x2":
            result = (value(rest[0]) * value(rest[1])).half()
        elif name == "fma.rn.f16x2":
            result = (value(rest[0]) * value(rest[1]) + value(rest[2])).half()
        elif name == "neg.f16x2":
            result = (-value(rest[0])).half()
        elif name == "tanh.approx.f16x2":
            result = (value(rest[0]).tanh() * (1 + rounds * TANH_ERROR)).half()
        elif name == "cvt.f32.f16":
            result = value(rest[0]).float()
        elif name == "cvt.rn.bf16x2.f32":
            result = torch.stack([value(rest[1]), value(rest[0])], 1).flatten().bfloat16()
        else:
            raise AssertionError(f"{line} is not known here")
        (found if target.startswith("$") else registers)[target] = result
    return [found[key] for key in sorted(found)]


def exact(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = z.double().requires_grad_()
    x = torch.nn.functional.gelu(z, approximate="tanh")
    (slope,) = torch.autograd.grad(x.sum(), z)
    return x.detach(), slope


KINDS = [
    (gelu_assembly.HALF_WITH_SLOPE, torch.float16, 2e-3), (gelu_assembly.BFLOAT_WITH_SLOPE, torch.bfloat16, 5e-3),
    (gelu_assembly.HALF, torch.float16, 2e-3), (gelu_assembly.BFLOAT, torch.bfloat16, 5e-3),
]  # fmt: skip


@pytest.mark.parametrize(("text", "dtype", "allowed"), KINDS, ids=["half, slope", "bfloat, slope", "half", "bfloat"])
@pytest.mark.parametrize("rounds", [-1.0, 0.0, 1.0])
def test_it_is_gelu_and_its_slope_as_exactly_as_16_bits_are(text, dtype, allowed, rounds):
    z = torch.cat([torch.linspace(-12, 12, 4801)[:-1], torch.logspace(-6, 4.8, 500)])
    x, *slopes = run(text, z, rounds)
    want, slope = exact(z)
    assert x.dtype == dtype
    assert ((x.double() - want).abs() <= allowed * want.abs() + 5e-4 + 1e-3 * abs(rounds)).all()
    assert len(slopes) == ("$3" in text)
    for found in slopes:
        assert found.dtype == torch.float16 and (found.double() - slope).abs().max() < 4.6e-3 + 3.2e-3 * abs(rounds)


@pytest.mark.parametrize(("text", "dtype", "allowed"), KINDS)
def test_it_stays_finite_and_nan_stays_nan(text, dtype, allowed):
    z = torch.tensor([300.0, -300.0, 65504.0, -65504.0, 1e6, -1e6, 1e38, -1e38, torch.inf, -torch.inf])
    x, *slopes = run(text, z)
    assert x.isfinite().all() and (x[1::2] == 0).all() and (x[0::2] >= 300).all()
    for found in slopes:
        assert found[0::2].eq(1).all() and found[1::2].eq(0).all()
    assert all(found.isnan().all() for found in run(text, torch.tensor([torch.nan, torch.nan])))
