"""A small student for the tests of the trainer: one attention-like projection and one TTT block, and an encoder of
clips of 16x16 pixels. A segment is 3 latent frames, 8 pixel frames to the next, one second at 8 frames per second."""

import hashlib
import json
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint

from longreel.engine.plan.facts import ModelFacts
from longreel.engine.runs.whole_file import save_whole
from longreel.engine.sampling.denoising import FlowMatching
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.files import LoadedTTT, save_ttt
from longreel.engine.ttt.layer import LACT, MLP, OWN, TTTConfig
from longreel.engine.ttt.order import Layout
from longreel.engine.ttt.units import Unit
from longreel.training.config import Config, Data, Training
from longreel.training.dataset import Geometry
from longreel.training.stages import LAYERS, Stage
from longreel.training.student import OTHERS, TTT

FACTS = ModelFacts(
    "Wan",
    latent_channels=4,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=3,
    native_fps=8.0,
)
GEOMETRY = Geometry(FACTS, 16, 16, 3)
WIDTH, TEXT_TOKENS, TEXT_WIDTH = 16, 2, 8


class TinyEncoder:
    video_identity, text_identity = "tiny vae", "tiny text"

    def __init__(self):
        self.videos, self.texts = [], []

    def encode_video(self, pixels: torch.Tensor) -> torch.Tensor:
        self.videos.append(tuple(pixels.shape))
        frames = pixels[::4].permute(3, 0, 1, 2)  # [3, F, H, W]
        pooled = frames.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).mean((3, 5))
        return torch.cat([pooled, pooled.mean(0, keepdim=True)]) * 2 - 1

    def encode_text(self, prompt: str) -> dict[str, torch.Tensor]:
        self.texts.append(prompt)
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "little")
        return {"text": torch.randn(TEXT_TOKENS, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))}


class TinyStudent(nn.Module):
    facts, device, identity = FACTS, torch.device("cpu"), "tiny"

    def __init__(self, dtype: torch.dtype = torch.float32, kind: str = MLP):
        super().__init__()
        torch.manual_seed(0)
        self.objective = FlowMatching()
        self.enter, self.hear = nn.Linear(FACTS.latent_channels, WIDTH), nn.Linear(TEXT_WIDTH, WIDTH)
        self.attention, self.leave = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, FACTS.latent_channels)
        self.block = TTTBlock(TTTConfig(kind, WIDTH, 1, 2 if kind == LACT else 4, 1.0, rates=OWN))
        for name in ("forward_text", "forward_video", "backward_text", "backward_video"):
            nn.init.constant_(getattr(self.block, name), 0.1)
        self.again, self.heard, self.whole = False, [], None
        self.to(dtype)

    def parameters_of(self, adapter: str) -> dict[str, dict[str, nn.Parameter]]:
        self.requires_grad_(False)
        groups = {
            TTT: {f"blocks.0.{name}": value for name, value in self.block.named_parameters()},
            OTHERS: {} if adapter == LAYERS else dict(self.attention.named_parameters(prefix="attention")),
        }
        for group in groups.values():
            for value in group.values():
                value.requires_grad_(True)
        return groups

    def layout(self, latent_shape, conditioning, windows) -> Layout:
        texts = (conditioning["text"].shape[2],) * len(windows)
        return Layout(texts, windows, *latent_shape[2:])

    def units(self) -> Unit:
        inner = Unit([self.attention, self.block])
        self.whole = Unit([self.enter, self.hear, self.leave], [inner])
        return self.whole

    def predict(self, noised, levels, conditioning, windows) -> torch.Tensor:
        self.heard.append(conditioning["text"].clone())
        noised = noised.requires_grad_(torch.is_grad_enabled())
        evaluate = self._predict if self.whole is None else partial(self.whole, self._predict)
        return evaluate(noised, levels, conditioning, windows)

    def _predict(self, noised, levels, conditioning, windows) -> torch.Tensor:
        dtype = self.enter.weight.dtype
        layout = self.layout(noised.shape[1:], conditioning, windows)
        video = self.enter(noised.permute(0, 2, 3, 4, 1).flatten(1, 3).to(dtype))
        video = video * (1 + levels.view(-1, 1, 1).to(dtype))
        x = torch.cat([self.hear(conditioning["text"].to(dtype)).flatten(1, 2), video], dim=1)  # [B, L, C]
        # Reentrant, as hosts/training/gradients.py: the block's parameters are not in the graph that leads here.
        again = self.again and torch.is_grad_enabled()
        mix = partial(checkpoint, self._mix, use_reentrant=True) if again else self._mix
        x = mix(x, layout) if self.whole is None else self.whole.inner[0](mix, x, layout)
        shape = noised.shape
        out = self.leave(x[:, layout.text_tokens :]).unflatten(1, tuple(shape[2:]))
        return out.permute(0, 4, 1, 2, 3).float().clone()

    def _mix(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        return self.block(self.attention(x) + x, layout)

    def checkpoint(self, scan_chunks: int, blocks: bool) -> None:
        self.block.ttt.checkpoint_every, self.again = scan_chunks, blocks

    def save(self, path: Path, segment_latent_frames: int, title: str) -> None:
        layers = {0: {name: value.detach().clone() for name, value in self.block.named_parameters()}}
        save_ttt(path, LoadedTTT(layers, self.block.ttt.config, FACTS.family, segment_latent_frames, 1, title))

    def save_others(self, path: Path, names, title: str) -> None:
        own = dict(self.attention.named_parameters(prefix="attention"))
        save_whole(path, {name: own[name].detach().clone() for name in names}, {"title": title})


def build(settings) -> tuple[TinyStudent, TinyEncoder, None]:
    """What a config file names."""
    if unknown := set(settings) - {"dtype"}:
        raise ValueError(f"model.{min(unknown)} is no known key; use dtype")
    return TinyStudent(getattr(torch, settings.get("dtype", "float32"))), TinyEncoder(), None


def write_clip(
    folder: Path, name: str, segments: int = 2, frames: int | None = None, size=(16, 16), seconds=1.0, color: int = 0
) -> Path:
    """A folder of pictures in which a bright column moves, and its storyboard."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / name
    pictures.mkdir()
    for number in range(segments * 8 + 1 if frames is None else frames):
        picture = Image.new("RGB", size, (40, 40, 40))
        picture.paste((255, (color * 80) % 256, 0), (number % size[0], 0, number % size[0] + 2, size[1]))
        picture.save(pictures / f"{number:04}.png")
    write_board(folder, name, [f"{name} part {number}" for number in range(segments)], seconds)
    return pictures


def write_board(folder: Path, name: str, prompts: list[str], seconds: float = 1.0, fps: float = 8) -> None:
    shots = [{"prompt": prompt, "seconds": seconds} for prompt in prompts]
    (folder / f"{name}.json").write_text(json.dumps({"longreel": 1, "fps": fps, "shots": shots}))


def write_dataset(folder: Path, clips: int = 3, segments: int = 2) -> Path:
    for number in range(clips):
        write_clip(folder, f"clip{number}", segments, color=number)
    return folder


def make_config(folder: Path, stages: tuple[Stage, ...] | None = None, **training) -> Config:
    """A run in `folder`/run of the clips in `folder`/clips."""
    held_out, seed = training.pop("held_out", 0), training.pop("seed", 0)
    stages = stages or (Stage("1s", 1, 3, 1, ttt_rate=1e-2, batch=2), Stage("2s", 2, 3, ttt_rate=1e-3, batch=2))
    return Config(
        folder / "run", Data(str(folder / "clips"), 16, 16, 3, held_out), stages, Training(**training), "tiny", seed
    )
