"""Scan with gradients, in groups of chunks: forwards by a kernel, and back by a kernel or by plain torch.

The reference with checkpoints passes over the tokens three times: forwards, forwards again, and back. The first of
these leaves the outputs and the weights before each group of chunks, and both are a kernel's to give. What is left is a
group's chunks at a time, from the last group to the first, for which a kernel is given, or plain torch serves.

Gradients are those of the reference (reference.py) at the weights that the kernel left before each group; they are the
reference's within what 16-bit operands round. Only first derivatives. Which kernels they are, is not known here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .inputs import ScanInputs
from .reference import _scan_group
from .state import State

Forward = Callable[[ScanInputs], tuple[torch.Tensor, State]]
# From a group, and the gradients by its outputs and by the weights after it, those by all that it was given, in the
# order of `GIVEN` and the state.
Back = Callable[[ScanInputs, torch.Tensor, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]
GIVEN = 6  # q, k, v, eta, ln_weight, ln_bias; what follows is the state


def by_reference(
    inputs: ScanInputs, above: torch.Tensor, above_state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """Go back through a group in plain torch, which passes it forwards once more."""
    norm = inputs.ln_weight, inputs.ln_bias
    with torch.enable_grad():
        given = (inputs.q, inputs.k, inputs.v, inputs.eta, *norm, *inputs.state.tensors())
        leaves = [x.detach().requires_grad_() for x in given]
        out, end = _scan_group(_with(inputs, tuple(leaves)))
    return torch.autograd.grad((out, *end.tensors()), leaves, (above, *above_state))


def scan(
    inputs: ScanInputs, checkpoint_every: int, forward: Forward, back: Back = by_reference
) -> tuple[torch.Tensor, State]:
    """Pass over the tokens once, as kernels.scan describes it, by `forward`, whose results need no gradients; these are
    found by `back`.

    checkpoint_every: chunks between two kept states, 1 or more.
    """
    rows = [inputs.q, inputs.k, inputs.v, inputs.eta]
    if inputs.index is not None:
        rows = [x.index_select(1, inputs.index) for x in rows]
    plan = replace(inputs, index=None)
    norm = inputs.ln_weight, inputs.ln_bias
    out, *end = _Scan.apply(plan, checkpoint_every * inputs.chunk, forward, back, *rows, *norm, *inputs.state.tensors())
    if inputs.index is not None:
        out = torch.zeros_like(inputs.q).index_copy(1, inputs.index.long(), out)
    return out, State(*end)


def _with(plan: ScanInputs, tensors: tuple[torch.Tensor, ...]) -> ScanInputs:
    q, k, v, eta, weight, bias, *state = tensors
    return replace(plan, q=q, k=k, v=v, eta=eta, ln_weight=weight, ln_bias=bias, state=State(*state))


class _Scan(torch.autograd.Function):
    """Scan tokens that stand in the order of the scan, in groups of `tokens`."""

    @staticmethod
    def forward(ctx: Any, plan: ScanInputs, tokens: int, forward: Forward, back: Back, *given: torch.Tensor) -> tuple:
        rows, norm, state = given[:4], given[4:GIVEN], given[GIVEN:]
        outs, starts = [], []
        for part in zip(*(x.split(tokens, 1) for x in rows), strict=True):
            starts.append(state)
            out, end = forward(_with(plan, (*part, *norm, *state)))
            outs.append(out)
            state = end.tensors()
        ctx.plan, ctx.tokens, ctx.groups, ctx.back = plan, tokens, len(starts), back
        ctx.save_for_backward(*rows, *norm, *(x for start in starts for x in start))
        return torch.cat(outs, 1), *(x.clone() if x is y else x for x, y in zip(state, given[GIVEN:], strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: torch.Tensor) -> tuple:
        rows, norm, kept = ctx.saved_tensors[:4], ctx.saved_tensors[4:GIVEN], ctx.saved_tensors[GIVEN:]
        size = len(kept) // ctx.groups
        of_norm = [torch.zeros_like(x, dtype=kept[0].dtype) for x in norm]  # summed in the state's dtype
        of_rows, of_state = [], above[1:]
        groups = list(zip(*(x.split(ctx.tokens, 1) for x in (*rows, above[0])), strict=True))
        for number in reversed(range(ctx.groups)):
            *part, of_out = groups[number]
            start = kept[number * size : (number + 1) * size]
            found = ctx.back(_with(ctx.plan, (*part, *norm, *start)), of_out, of_state)
            of_rows.append(found[:4])
            of_norm = [a + b for a, b in zip(of_norm, found[4:GIVEN], strict=True)]
            of_state = found[GIVEN:]
        of_norm = [total.to(x.dtype) for total, x in zip(of_norm, norm, strict=True)]
        joined = (torch.cat(x[::-1], 1) for x in zip(*of_rows, strict=True))
        return None, None, None, None, *joined, *of_norm, *of_state
