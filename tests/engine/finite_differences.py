"""What gradients say of a step, and what the step does: the two agree where a backward pass is right."""

from collections.abc import Callable, Sequence

import torch


def along_gradients(
    value: Callable[[], torch.Tensor],
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    step: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All parameters moved by `step` along and against their own gradients: (slope of `value` as measured, as the
    gradients say). The parameters end where they were."""
    direction = [gradient / gradient.norm() for gradient in gradients]
    along = sum((gradient * way).sum() for gradient, way in zip(gradients, direction, strict=True))
    ends = []
    for sign in (-1, 1):
        with torch.no_grad():
            for parameter, way in zip(parameters, direction, strict=True):
                parameter += sign * step * way
            ends.append(value())
            for parameter, way in zip(parameters, direction, strict=True):
                parameter -= sign * step * way
    return (ends[1] - ends[0]) / (2 * step), along
