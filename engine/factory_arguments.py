"""Hand on together where a module's weights are made and in which dtype: torch's own two factory arguments."""

from typing import TypedDict

import torch


class FactoryArguments(TypedDict):
    """Two arguments to hand on with `**`, of which None leaves the choice to torch."""

    device: torch.device | None
    dtype: torch.dtype | None
