"""Say what the trainer needs of a model: a student that learns, and an encoder that turns clips and prompts into
numbers.

hosts/ttt/student.py builds both from ComfyUI's MODEL, CLIP and VAE; the tests build them from a bare TTT block. What
is learned, and by which recipe, is not known here (training/stages.py).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..engine.plan.facts import ModelFacts
from ..engine.ttt.order import Layout, Range
from ..engine.ttt.units import Unit

TTT, OTHERS = "ttt", "others"  # groups of parameters: the TTT layers with their gates, and what else a stage trains
TEXT = "text"  # the one tensor that every prompt's conditioning has
FRAME_RATE = "frame_rate"  # frames per second, for networks that are told (ModelFacts.unsaid_frame_rate)

Conditioning = Mapping[str, torch.Tensor]
"""What the text encoder made of prompts, by name. Of one prompt: "text" [T, D], and whatever else the network is given
(a mask [T], a pooled text [D]). Of a batch of stories of n segments: the same names, each [B, n, ...], and where the
network places frames in seconds "frame_rate" [B, n] of their clips."""


class Objective(Protocol):
    """This is engine/sampling/denoising.FlowMatching or VPrediction. Levels are what `Student.predict` is given: sigmas
    or timesteps.
    """

    def draw_levels(self, generator: torch.Generator, batch: int) -> torch.Tensor: ...
    def noise(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor: ...
    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor: ...


class Student(Protocol):
    """This is a model that learns. facts: of the family. device: where batches go. objective: how its family is
    trained. identity: text that differs where the weights that training starts from differ; a run is only resumed with
    the same.

    It draws no random numbers of its own: the trainer hands it all of them, which is what makes a resumed run equal to
    an uninterrupted one.
    """

    facts: ModelFacts
    device: torch.device
    objective: Objective
    identity: str

    def parameters_of(self, adapter: str) -> dict[str, dict[str, nn.Parameter]]:
        """Return {TTT: {name: parameter}, OTHERS: {name: parameter}} that an adapter of training/stages.py trains,
        under names that stay the same from run to run. They require gradients afterwards, and no other parameter does.
        """

    def predict(
        self, noised: torch.Tensor, levels: torch.Tensor, conditioning: Conditioning, windows: tuple[Range, ...]
    ) -> torch.Tensor:
        """Return what the objective's target is compared with, like noised, for noised [B, C, F, H, W], levels [B],
        conditioning of the batch, windows: latent frames of each segment.
        """

    def layout(
        self, latent_shape: tuple[int, int, int, int], conditioning: Conditioning, windows: tuple[Range, ...]
    ) -> Layout:
        """Return how TTT reads latents [C, F, H, W] of this shape, for the plan's tokens; conditioning as in
        predict.
        """

    def checkpoint(self, scan_chunks: int, blocks: bool) -> None:
        """Set what is recomputed in the backward pass instead of kept: the scan but for a state every `scan_chunks`
        chunks (0: all is kept), and the inside of each transformer block where `blocks`."""

    def units(self) -> Unit:
        """Return the units by which several processes divide the weights: what `predict` evaluates the network by from
        now on, and by the inner units each block once, always in the same order, and equally often for equally many
        videos whatever their texts. Parameters then keep their names and change their types, and are whole within those
        calls alone.
        """

    def save(self, path: Path, segment_latent_frames: int, title: str) -> None:
        """Write the TTT layers as they are now, as a file of engine/ttt/files.save_ttt."""

    def save_others(self, path: Path, names: Collection[str], title: str) -> None:
        """Write, of the group OTHERS, the weights of these names, one at least, as they are now, as a
        safetensors file.
        """


class Encoder(Protocol):
    """This encodes clips and prompts. video_identity, text_identity: text that differs where what they return differs
    (a hash of the weights, sizes that they pad to): the cache is addressed by it.
    """

    video_identity: str
    text_identity: str

    def encode_video(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return [C, F, h, w] as the network is trained on them (latent format applied), for [pixel frames, H, W, 3] in
        0..1.
        """

    def encode_text(self, prompt: str) -> Conditioning:
        """Encode one prompt, "" for none. Every prompt gives tensors of the same names and shapes."""


Sampler = Callable[[], Sequence[torch.Tensor]]
"""Videos [F, H, W, 3] in 0..1 that the student makes as it is at that moment."""


class Builder(Protocol):
    """This is a function that a config file names (training/config.py), of the form "module:function"."""

    def __call__(self, settings: Mapping[str, Any]) -> tuple[Student, Encoder, Sampler | None]:
        """Build student and encoder. settings: the table [model] of the file without `builder`; the builder checks its
        keys. A sampler of None: no samples.
        """
