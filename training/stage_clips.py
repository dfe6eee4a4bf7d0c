"""Keep the clips of a run: read and checked once, cut into parts for every stage, encoded once and read from the cache.

A stage trains on the parts of all clips but the last `held_out` by name, on which it is measured. Which part is shown
when, and with which noise, is not known here (training/trainer.py).
"""

from collections.abc import Callable
from pathlib import Path

import torch

from ..engine.plan.facts import ModelFacts
from .cache import Cache
from .config import Config
from .dataset import Geometry, Part, parts_of, read_dataset, set_apart
from .student import FRAME_RATE, Conditioning, Encoder


class StageClips:
    """These are the parts of the clips that each stage of a run trains on (`trained`) and is measured on (`held_out`).

    Raises ValueError for a bad data set (see read_dataset and parts_of), and where no clip is left to train on.
    """

    def __init__(self, config: Config, encoder: Encoder, facts: ModelFacts) -> None:
        """Read every file once, for its digest; nothing is encoded yet."""
        data = config.data
        self.geometry = Geometry(facts, data.width, data.height, data.segment_latent_frames)
        self.cache = Cache(config.cache_folder, encoder, self.geometry)
        self.clips = read_dataset(Path(data.folder), self.geometry)
        shown, held_out = set_apart(self.clips, data.held_out)
        self.trained = [parts_of(shown, stage.segments) for stage in config.stages]
        self.held_out = [parts_of(held_out, stage.segments) for stage in config.stages]

    def prepare(self, tell: Callable[[int, int], None] | None = None, rank: int = 0, processes: int = 1) -> int:
        """Encode what the cache does not have yet, and return how many files were made. See Cache.prepare.

        Of several processes each, by its rank counted from 0, encodes its share of the parts.
        """
        wanted = [part for parts in (*self.trained, *self.held_out) for part in parts]
        with torch.no_grad():
            return self.cache.prepare(wanted[rank::processes], tell)

    def latent(self, part: Part) -> torch.Tensor:
        """Return the latent [C, F, h, w] float32 of a part. Raises ValueError where it was not prepared."""
        return self.cache.latent(part)

    def conditioning(self, part: Part, unconditional: bool = False) -> Conditioning:
        """Return every tensor [n, ...] of the prompts of a part's n segments, or of as many empty prompts, and the
        clip's frame rate [n] where the network is told it, in both.
        """
        heard = self.cache.conditioning(("",) * part.segments if unconditional else part.prompts)
        rate = part.clip.told_fps
        return heard if rate is None else {**heard, FRAME_RATE: torch.full((part.segments,), rate)}

    def last_parts(self, count: int) -> list[Part]:
        """Return the parts of the last stage to watch a run by: the last `count`, those that are held out before
        others.
        """
        return [*self.trained[-1], *self.held_out[-1]][-count:]
