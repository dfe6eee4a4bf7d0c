"""A transformer block whose inside is recomputed in the backward pass, instead of being kept for the gradients.

Gradient checkpointing (arXiv 1604.06174) around the segments of one block (hosts/ttt/segments.py): what is kept is the
block's input, so memory grows with the blocks, and not with what happens in them. torch's own checkpoint does not serve
here: core's LTXV and HunyuanVideo blocks add to their input in place, and a tensor that was saved for the gradients and
then overwritten would come back wrong without a word. Here a block is given copies, and torch keeps what it overwrites.

Where gradients are not recorded, a block runs as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.utils._pytree import tree_flatten, tree_unflatten

import comfy.model_management

OPTIONS = "transformer_options"  # a block's argument that holds no part of the video


def recomputed(evaluate: Callable, overwrites: bool) -> Callable:
    """Return `evaluate` of a block's arguments, which keeps no more than those for the gradients. overwrites: it writes
    into tensors that the gradients need.

    One tensor among the arguments must require gradients, or the result requires none.
    """

    def forward(*args, **kwargs):
        if not torch.is_grad_enabled():
            return evaluate(*args, **kwargs)
        options = dict(kwargs.pop(OPTIONS, {}))  # core writes the next block's number into its own
        leaves, spec = tree_flatten((args, kwargs))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        tensors = [leaves[place] for place in places]
        rest = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]

        def call(given: list[torch.Tensor]) -> Any:
            filled = list(rest)
            for place, tensor in zip(places, given, strict=True):
                filled[place] = tensor
            again_args, again_kwargs = tree_unflatten(filled, spec)
            with training():
                return evaluate(*again_args, **again_kwargs, **{OPTIONS: options})

        return _Recomputed.apply(call, overwrites, *tensors)

    return forward


@contextmanager
def training() -> Iterator[None]:
    """Have core use operations that have gradients, for as long as the context lasts."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: Callable, overwrites: bool, *tensors: torch.Tensor):
        ctx.call, ctx.overwrites = call, overwrites
        ctx.save_for_backward(*tensors)
        return call([tensor.clone() for tensor in tensors] if overwrites else list(tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: torch.Tensor):
        leaves = [
            tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        with torch.enable_grad(), allow_mutation_on_saved_tensors() if ctx.overwrites else nullcontext():
            # Copies, for a leaf may not be written into.
            found = ctx.call([leaf.clone() for leaf in leaves] if ctx.overwrites else leaves)
            outs = found if isinstance(found, tuple) else (found,)
            wanted = [(out, gradient) for out, gradient in zip(outs, gradients, strict=True) if out.requires_grad]
            torch.autograd.backward(*zip(*wanted, strict=True))
        return None, None, *(leaf.grad for leaf in leaves)
