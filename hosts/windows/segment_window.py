"""Cut the latent frames of one segment, and one in front of them, out of all that lies on a video's time axis."""

from collections.abc import Sequence

import torch

import comfy.context_windows as context_windows

from ...engine.plan.timeline import Segment
from .streams import SOUND, SoundWindow

FRAME_AXIS = 2  # [B, C, F, H, W]


class SegmentWindow(context_windows.IndexListContextWindow):
    """A window has the latent frames of one segment, led by one more that is dropped again after the network.

    A causal video VAE makes its first latent frame from a single picture, and the network has learned that; the lead
    frame plays that part. It is the frame before the segment, or, right after a cut, the segment's own first one, so
    that nothing crosses the cut; for image-to-video networks a picture (hosts/windows/lead_pictures.py).
    """

    def __init__(
        self, number: int, segment: Segment, total_frames: int, lead_frame: int, sound: SoundWindow | None = None
    ):
        super().__init__(
            list(range(segment.start_frame, segment.end_frame)),
            dim=FRAME_AXIS,
            total_frames=total_frames,
            modality_windows=None if sound is None else {SOUND: sound},
        )
        self.number, self.segment, self.lead_frame = number, segment, lead_frame

    @property
    def causal_anchor_index(self) -> int | None:
        return self._anchor

    @causal_anchor_index.setter
    def causal_anchor_index(self, asked: int) -> None:
        self._anchor = self.lead_frame  # core always asks for the frame before, cut or not

    _anchor: int | None = None

    def get_tensor(
        self,
        full: torch.Tensor,
        device: torch.device | None = None,
        dim: int | None = None,
        retain_index_list: Sequence[int] = (),
    ):
        if dim == 0:  # core asks for the timesteps of the batch; a segment is a stretch of frames, of every row
            return full
        if retain_index_list:
            return super().get_tensor(full, device, dim, retain_index_list)
        # As core does it, but for the list of frames, which would go to the device each time and have the host wait.
        dim = self.dim if dim is None else dim
        frames = [full.narrow(dim, self.segment.start_frame, self.segment.latent_frames)]
        if self._anchor is not None and self._anchor >= 0:
            frames.insert(0, full.narrow(dim, self._anchor, 1))
        return torch.cat(frames, dim).to(device)
