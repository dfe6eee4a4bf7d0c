"""Choose the picture that leads each segment of joint sampling, for networks that were trained on clips with one.

An image-to-video network has learned clips whose first frame is a picture without noise. Of a long video only the first
segment begins with the start picture, and the frame in front of every other one is as noisy as the step: to call it
known would be untrue, and what the network makes of it between two steps is blurred where the layout is decided. So a
segment is led by the nearest frame in front of it, in its take, that is known: mostly the start picture, as core's
Context Windows do it with `retain_first_frame`. Latent, mask and picture are of that same frame, and its output is
dropped. Nothing crosses a cut: a take without a picture of its own is shown none.
"""

from bisect import bisect_right
from collections.abc import Iterable

import torch

from ...engine.plan.timeline import Segment, Timeline
from ..families import picture_channels_of
from ..families.picture_channels import CLEAN_FIRST_FRAME
from ..types import BaseModel, Entry, Guider
from .picture_channels import entries_of, kept_frames, known_in, report_missing, show_in


class LeadPictures:
    """These are the latent frames of a video that can stand in front of a segment as a picture.

    clean: frames that the sampler's noise mask keeps without noise, where the network takes them so. reported: whether
    takes without a picture have been named.
    """

    def __init__(self, clean: Iterable[int] = (), reported: bool = False):
        self.clean, self.known = frozenset(clean), ()
        self._reported = reported

    @classmethod
    def of_run(
        cls, guider: Guider, latent: torch.Tensor, mask: torch.Tensor | None, reported: bool = False
    ) -> "LeadPictures":
        """Return those of one run of a sampler, and have it show what its noise mask keeps of its latent.

        latent, mask: [B, C, F, H, W]; None draws everything. reported: what is missing has been said before.
        """
        model = guider.model_patcher.model
        entries = entries_of(list(guider.conds.values()))
        if picture_channels_of(model) is None and not any(_says_clean(entry) for entry in entries):
            return cls(reported=reported)
        show_in(guider, kept_frames(latent, mask), latent.shape)
        pictures = cls((one.frame for one in kept_frames(latent, mask, least=1.0)), reported)
        pictures.look(model, entries_of(list(guider.conds.values())))
        return pictures

    def look(self, model: BaseModel, entries: list[Entry], timeline: Timeline | None = None) -> None:
        """Find the known frames in what the prompts carry; a timeline has missing ones reported, once."""
        known = known_in(entries) if picture_channels_of(model) is not None else frozenset()
        if any(_says_clean(entry) for entry in entries):
            known |= self.clean
        self.known = tuple(sorted(known))
        if timeline is not None and not self._reported:
            self._reported = True
            report_missing(model, timeline, known)

    def lead_of(self, segment: Segment, take_start: int) -> int:
        """Return the latent frame that leads a segment: a picture, or the frame in front; at a cut its own first."""
        nearest = self.known[: bisect_right(self.known, segment.start_frame)]
        if nearest and nearest[-1] >= take_start:
            return nearest[-1]
        return max(take_start, segment.start_frame - 1)

    def told(self, entry: Entry, first_frame: int) -> Entry:
        """Return an entry that calls a window's first frame clean only where it is."""
        if not _says_clean(entry) or first_frame in self.clean:
            return entry
        model_conds = {key: value for key, value in entry["model_conds"].items() if key != CLEAN_FIRST_FRAME}
        return {**entry, "model_conds": model_conds}


def _says_clean(entry: Entry) -> bool:
    return CLEAN_FIRST_FRAME in entry or CLEAN_FIRST_FRAME in entry.get("model_conds", {})
