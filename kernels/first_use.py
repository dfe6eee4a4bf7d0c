"""Try a kernel where it has never run, before anything depends on it.

Nobody has timed or run these kernels on most GPUs, and a driver, a compiler or a Triton can be one that they were not
written for. So the first scan of a kind on a device is preceded by one of two chunks and a tail on random tokens, in
the layout of the real ones, which the reference computes too, in float64. What the kernel says wrongly, or raises, is
told once by dispatch.py, and the reference serves from then on. The way back is tried likewise, apart. It costs some
milliseconds beside the compilation, which the scan would have waited for as well, and one wait for the device. Which
kernel there is, is not known here.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from . import differentiable, reference
from .inputs import ScanInputs
from .state import State

# Relative error of outputs and of what the weights learned. A wrong mask, order or barrier is off by a hundredth to
# one; a right kernel by 4e-3 (bfloat16), 5e-4 (float16) and 1e-6 (float32, in the interpreter).
ALLOWED = {torch.bfloat16: 3e-2, torch.float16: 1e-2, torch.float32: 1e-3, torch.float64: 1e-6}
TAIL = 5  # tokens in the last, short chunk

Scan = Callable[[ScanInputs], tuple[torch.Tensor, State]]
Tensors = tuple[torch.Tensor, ...]
Back = Callable[[ScanInputs, torch.Tensor, Tensors], Tensors]
_found: dict[tuple, str | None] = {}


def obstacle(inputs: ScanInputs, scan: Scan) -> str | None:
    """Return why `scan` is not to be used for such inputs on this device, as the end of a sentence, or None.

    Tried once for each device, kind, chunk, layout, dtype and number of videos and heads; then remembered.
    """
    key = _kind_of(inputs)
    if key not in _found:
        with torch.no_grad():
            _found[key] = _tried(sample_like(inputs), scan)
    return _found[key]


def obstacle_going_back(inputs: ScanInputs, back: Back, way: str = "kernels") -> str | None:
    """Return why `back` (differentiable.Back) is not to be used for such inputs on this device, likewise.

    It gets the tokens in the order of the scan, as differentiable.py hands them on. way: one word for each `back`.
    """
    inputs = replace(inputs, index=None)
    key = "back", way, *_kind_of(inputs)
    if key not in _found:
        with torch.no_grad():
            _found[key] = _tried_going_back(sample_like(inputs), back)
    return _found[key]


def forget() -> None:
    """Forget what was found, so that the next scan tries anew."""
    _found.clear()


def _kind_of(inputs: ScanInputs) -> tuple:
    """Return all that decides which kernel is compiled, and where it runs."""
    tensors = (inputs.q, inputs.k, inputs.v, inputs.eta)
    layouts = tuple((x.dtype, tuple(stride % 16 == 0 for stride in x.stride()[1:]), _token_major(x)) for x in tensors)
    index = None if inputs.index is None else inputs.index.dtype
    norm = (inputs.ln_weight.dtype, inputs.ln_bias.dtype)
    shape = inputs.q.shape[0], *inputs.q.shape[2:]
    return inputs.q.device, inputs.state.is_mlp, shape, inputs.chunk, inputs.eps, layouts, index, norm


def _token_major(x: torch.Tensor) -> bool:
    """Return whether the heads of a token [B, L, H, ...] lie closer together than the tokens of a head."""
    return x.stride(1) >= x.stride(2)


def sample_like(inputs: ScanInputs) -> ScanInputs:
    """Return two chunks and a tail of random tokens in the layout, dtypes and order of `inputs`, whose inner steps
    change the outputs by about as much as they are.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def like(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Place values [B, L, H, ...] as the numbers of x [B, L, H, ...] lie."""
        token, head = x.stride(1), x.stride(2)
        if not (token and head):
            return values.to(x)
        if not _token_major(x):
            head = values.shape[1] * token
        outer = values.shape[1] * token if _token_major(x) else values.shape[2] * head
        placed = torch.empty_strided(
            values.shape, (outer, token, head, *x.stride()[3:]), dtype=x.dtype, device=x.device
        )
        return placed.copy_(values)

    B, _, H, D = inputs.q.shape
    M, mlp, L = inputs.state.W1.shape[-1], inputs.state.is_mlp, 2 * inputs.chunk + TAIL
    weights = [0.3 * normal(B, H, D, M) / D**0.5, 0.1 * normal(B, H, 1, M)]
    weights += [normal(B, H, M, D) / M**0.5, 0.1 * normal(B, H, 1, D)] if mlp else []
    unit = torch.nn.functional.normalize
    order = torch.randperm(L, generator=generator)
    return replace(
        inputs,
        q=like(inputs.q, unit(normal(B, L, H, D), dim=-1)),
        k=like(inputs.k, unit(normal(B, L, H, D), dim=-1)),
        v=like(inputs.v, normal(B, L, H, D)),
        eta=like(inputs.eta, (0.5 if mlp else 1.0) * normal(B, L, H).sigmoid() / inputs.chunk),
        ln_weight=(1 + 0.1 * normal(H, D)).to(inputs.ln_weight),
        ln_bias=(0.1 * normal(H, D)).to(inputs.ln_bias),
        state=State(*(x.to(inputs.state.W1) for x in weights)),
        index=None if inputs.index is None else order.to(inputs.index),
    )


def reason_of(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no word'])[0][:300]}"


def _tried(sample: ScanInputs, scan: Scan) -> str | None:
    """Return what is wrong with what `scan` makes of the sample, or None."""

    def work() -> list[torch.Tensor]:
        out, end = scan(sample)
        return [out, *end.tensors()]

    exact = _in_double(sample)
    want, want_end = reference.scan(exact, 0)
    # Of weights what they learned: an update is small beside them.
    zeros = [torch.zeros_like(want), *exact.state.tensors()]
    return _compared(work, [want, *want_end.tensors()], zeros, sample, "two chunks")


def _tried_going_back(sample: ScanInputs, back: Back) -> str | None:
    """Return what is wrong with the gradients that `back` makes of the sample, or None."""
    generator = torch.Generator().manual_seed(1)
    above, *above_state = (torch.randn(x.shape, generator=generator).to(x) for x in (sample.q, *sample.state.tensors()))
    exact = _in_double(sample)
    want = differentiable.by_reference(exact, above.double(), tuple(x.double() for x in above_state))
    zeros = [torch.zeros_like(x) for x in want]
    return _compared(
        lambda: back(sample, above, tuple(above_state)), list(want), zeros, sample, "the gradients of two chunks"
    )


def _in_double(sample: ScanInputs) -> ScanInputs:
    names = ("q", "k", "v", "eta", "ln_weight", "ln_bias")
    start = State(*(x.double() for x in sample.state.tensors()))
    return replace(sample, state=start, **{name: getattr(sample, name).double() for name in names})


def _compared(
    work: Callable[[], Iterable[torch.Tensor]],
    wanted: list[torch.Tensor],
    zeros: list[torch.Tensor],
    sample: ScanInputs,
    what: str,
) -> str | None:
    """Return what is wrong with what `work` returns, or None. zeros: from where it is measured."""
    place = torch.cuda.get_device_name(sample.q.device) if sample.q.is_cuda else str(sample.q.device)
    try:
        found = [x.double() for x in work()]
    except torch.cuda.OutOfMemoryError:
        raise  # says nothing about the kernel, and ComfyUI frees memory for it
    except Exception as error:  # noqa: BLE001  # whatever a compiler, driver or launch raises is what the user is told
        return f"its kernels do not run on {place} ({reason_of(error)})"
    errors = [
        ((a - zero) - (b - zero)).norm() / (b - zero).norm() for a, b, zero in zip(found, wanted, zeros, strict=True)
    ]
    worst, allowed = float(torch.stack(errors).max()), ALLOWED[sample.q.dtype]
    if worst <= allowed:  # NaN is not
        return None
    return (
        f"its kernels compute wrongly on {place}: {what} are off by {worst:.1e} from the reference, allowed "
        f"{allowed:.0e}"
    )
