"""Measure the motion of a video and what it does not explain, pair by pair, by an optical flow that is handed in.

The flow of the papers is RAFT, whose weights nothing that comes with ComfyUI brings; OpenCV's DIS (Kroeger et al. 2016,
arXiv 1603.03590) is taken where OpenCV is installed, on the 720 x 720 pixels of MAWE (engine/measure/mawe.py). Figures
compare within one flow alone. It sees movement of what has texture; a flat disc moves at its edge.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .by_frame import Columns
from .mawe import SIDE, flow_lengths, stretched, warp_error

Flow = Callable[[Tensor, Tensor], Tensor]  # (one, two), each [3, H, W] 0..255 -> [2, H, W], x and y in pixels
FLOW_NAME = "OpenCV DIS, medium, at 720 x 720"
NO_OPENCV = "OpenCV is not installed; install opencv-python-headless into ComfyUI's environment"


def opencv_flow() -> Flow | None:
    """Return OpenCV's DIS as a flow, or None where OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        return None
    cv2: Any = importlib.import_module("cv2")
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(one: Tensor, two: Tensor) -> Tensor:
        pair = (cv2.cvtColor(x.byte().permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for x in (one, two))
        return torch.from_numpy(dis.calc(*pair, None)).permute(2, 0, 1)

    return flow


class WarpMeter:
    """This meter's columns, each [F - 1]: warp_error (0..255 squared), flow and flow_square, the mean length and mean
    squared length of a pair's flow in pixels at 720 x 720.
    """

    def __init__(self, flow: Flow, check_interrupt: Callable[[], object] = lambda: None, side: int = SIDE):
        """check_interrupt: called at every pair, to raise what ends the work. side: pixels; 720 is as published."""
        self.flow, self.check_interrupt, self.side = flow, check_interrupt, side
        self._last: Tensor | None = None
        self._rows: list[tuple[float, float, float]] = []

    def push(self, frames: Tensor) -> None:
        for frame in frames:
            self.check_interrupt()
            picture = stretched(frame.permute(2, 0, 1)[None], self.side)[0]  # [3, side, side]
            if self._last is not None:
                flow = self.flow(self._last, picture)
                self._rows.append((warp_error(self._last, picture, flow), *flow_lengths(flow)))
            self._last = picture

    def finish(self) -> Columns:
        rows = torch.tensor(self._rows).reshape(-1, 3)
        return dict(zip(("warp_error", "flow", "flow_square"), rows.unbind(1), strict=True))
