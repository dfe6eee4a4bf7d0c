"""The demo model's fast twin as the student of training/anchor_lora.py, and the clips of demo/encode_anchors.py.

    python -m longreel.training.anchor_lora demo/anchor_lora.toml

Prompts say everything in two of three clips; in the others, attributes are left out at random. What a trainer does with
student and clips is not known here.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.plan.facts import ModelFacts
from ..engine.sampling.denoising import FlowMatching
from . import encode_anchors, pair_world, train_dit, twin, world
from .picture_book import prompts
from .picture_book.book import Page

FACTS = ModelFacts(
    family="Wan",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=5,
    native_fps=float(world.FRAMES_PER_SECOND),
)
HELD_OUT = 64  # clips, the first of the file
COMPLETE = 0.67  # share of the prompts that say everything
LEFT_OUT = 0.3  # share of the attributes that the others leave out
SETTINGS = ("latents", "threads", "weights")


class TwinStudent:
    """training/anchor_student.AnchorStudent. The text encoder is not trained."""

    def __init__(self, folder: Path = twin.WEIGHTS):
        self.network = twin.transformer(folder)
        self.facts, self.device, self.top_level = FACTS, torch.device("cpu"), 1.0
        self.objective = FlowMatching(train_dit.SHIFT)
        self.identity = "shapeworld_t2v"

    def predict(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        is_anchor: torch.Tensor,
    ) -> torch.Tensor:
        times = (levels * 1000)[:, None] * (1 - is_anchor)  # [B, F]
        return self.network(noised, times, conditioning["text"][:, 0])


class EncodedClips:
    """training/anchor_student.Clips, from files of demo/encode_anchors.py. 5 latent frames of each."""

    def __init__(self, files: list[Path], folder: Path = twin.WEIGHTS):
        found = [torch.load(file, weights_only=False) for file in files]
        self.latents, self.pictures = (torch.cat([one[name] for one in found]) for name in ("latents", "pictures"))
        self.picture_at = [frame for one in found for frame in one["picture_at"]]
        scenes = [scene for one in found for scene in one["scenes"]]
        rng = random.Random(7)
        encoder = twin.text(folder)
        with torch.no_grad():
            self.silence = encoder(twin.token_ids(encoder, [""]))
            ids = twin.token_ids(encoder, [_prompt(scene, rng) for scene in scenes])
            self.texts = torch.cat([encoder(part) for part in ids.split(256)])  # [N, L, D]
        self.held_out, self.trained = list(range(HELD_OUT)), list(range(HELD_OUT, len(scenes)))
        self.identity = {"clips": len(scenes), "sum": round(float(self.latents.double().sum()), 2)}

    def latent(self, number: int) -> torch.Tensor:
        return self.latents[number, :, : FACTS.native_latent_frames].float()

    def conditioning(self, number: int, unconditional: bool) -> dict[str, torch.Tensor]:
        return {"text": self.silence if unconditional else self.texts[number : number + 1]}

    def still(self, number: int) -> tuple[int, torch.Tensor] | None:
        frame = self.picture_at[number]
        return (frame, self.pictures[number, :, 0].float()) if frame < FACTS.native_latent_frames else None


def build(settings: Mapping[str, Any]) -> tuple[TwinStudent, EncodedClips]:
    """settings: `latents`, files separated by commas; `threads`, 1 if not said; `weights`, a folder with the networks,
    the bundled ones if not said. Raises ValueError for others."""
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ValueError(f"model.{unknown[0]} is no known key; write {', '.join(SETTINGS)}")
    if "latents" not in settings:
        raise ValueError("model.latents is missing; write latents, the files of demo/encode_anchors.py")
    torch.set_num_threads(settings.get("threads", 1))
    folder = Path(settings["weights"]) if "weights" in settings else twin.WEIGHTS
    student = TwinStudent(folder)
    torch._dynamo.config.recompile_limit = 64
    for block in student.network.blocks:  # hooks differ from block to block
        block.compile(dynamic=False)
    return student, EncodedClips([Path(name.strip()) for name in settings["latents"].split(",")], folder)


def _prompt(scene: encode_anchors.Scene, rng: random.Random) -> str:
    if isinstance(scene, Page):
        left_out = dict.fromkeys(prompts.ATTRIBUTES, LEFT_OUT)
        return prompts.random_prompt(scene, rng, left_out=left_out, complete=COMPLETE, empty=0)
    complete = rng.random() < COMPLETE
    naming = tuple(name for name in train_dit.ATTRIBUTES if complete or rng.random() >= LEFT_OUT)
    return (pair_world if isinstance(scene, pair_world.PairScene) else world).prompt(scene, naming)
