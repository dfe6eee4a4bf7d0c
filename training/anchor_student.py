"""Say what the trainer of anchor LoRAs needs: a network that is given which frames are known, and clips with anchors.

hosts/anchor/student.py builds the student from ComfyUI's MODEL, demo/anchor_student.py from the demo model's fast twin.
Clips come from a folder (`FolderClips`), or from a builder that brings its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..engine.plan.facts import ModelFacts
from .cache import Cache
from .config import Data
from .dataset import Geometry, manifest, parts_of, read_dataset, set_apart
from .student import Conditioning, Encoder, Objective


class AnchorStudent(Protocol):
    """This is the network that learns. network: whose linear layers get adapters; nothing else of it is trained.
    top_level: of the objective's levels, the one that is all noise: 1, or the number of timesteps. identity: differs
    where the weights differ. The student draws no random numbers.
    """

    network: nn.Module
    facts: ModelFacts
    device: torch.device
    objective: Objective
    top_level: float
    identity: str

    def predict(
        self, noised: torch.Tensor, levels: torch.Tensor, conditioning: Conditioning, is_anchor: torch.Tensor
    ) -> torch.Tensor:
        """Return what the objective's target is compared with, for noised [B, C, F, H, W] with the anchors clean in it,
        levels [B], conditioning [B, 1, ...] of one prompt each, is_anchor [B, F]: 1 where a frame is an anchor, whose
        time is 0.
        """


class Clips(Protocol):
    """These are the clips of a run. identity: as JSON holds it, of all that is shown. held_out: numbers of clips that
    are measured and not trained on; `trained` those that are.
    """

    identity: Any
    trained: list[int]
    held_out: list[int]

    def latent(self, number: int) -> torch.Tensor:
        """Return the latent [C, F, h, w] float32; all clips have one shape."""

    def conditioning(self, number: int, unconditional: bool) -> Conditioning:
        """Return the conditioning of its one prompt, or the empty one: every tensor [1, ...]."""

    def still(self, number: int) -> tuple[int, torch.Tensor] | None:
        """Return (later latent frame, [C, h, w] of a picture of it that was encoded by itself), None where there is
        none.
        """


class AnchorBuilder(Protocol):
    """This is a function that a config file names, of the form "module:function"."""

    def __call__(self, settings: Mapping[str, Any]) -> tuple[AnchorStudent, Encoder | Clips]:
        """Build the student. settings: the table [model] without `builder`. The second is an encoder for the clips of
        [data], or without that table the clips themselves.
        """


class FolderClips:
    """These are the clips of a folder (training/dataset.py), one segment each, encoded once and then read from the
    cache.

    Raises ValueError for a bad folder, and where no clip is left to train on.
    """

    def __init__(self, data: Data, encoder: Encoder, facts: ModelFacts):
        geometry = Geometry(facts, data.width, data.height, data.segment_latent_frames)
        clips = read_dataset(Path(data.folder), geometry)
        self.identity = manifest(clips)
        shown, measured = (parts_of(part, 1) for part in set_apart(clips, data.held_out))
        self.parts = (*shown, *measured)
        self.trained, self.held_out = list(range(len(shown))), list(range(len(shown), len(self.parts)))
        self.cache = Cache(Path(data.cache or Path(data.folder) / "cache"), encoder, geometry)

    def prepare(self, tell: Callable[[int, int], None] | None = None) -> int:
        """Encode what the cache does not have yet, and return how many files were made. See Cache.prepare."""
        with torch.no_grad():
            return self.cache.prepare(self.parts, tell)

    def latent(self, number: int) -> torch.Tensor:
        return self.cache.latent(self.parts[number])

    def conditioning(self, number: int, unconditional: bool) -> Conditioning:
        return self.cache.conditioning(("",) if unconditional else self.parts[number].prompts)

    def still(self, number: int) -> None:
        return None  # a clip's own latent frames are what there is
