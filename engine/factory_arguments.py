"""Where a module's weights are made and in which dtype: torch's own two factory arguments, handed on together."""

from typing import TypedDict

import torch


class FactoryArguments(TypedDict):
    """For `**`: None leaves it to torch's defaults."""

    device: torch.device | None
    dtype: torch.dtype | None
