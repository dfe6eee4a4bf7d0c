"""Clips, settings and the graph for the tests of the nodes that gather clips, train TTT layers and save them."""

from pathlib import Path

import torch
from PIL import Image

from longreel.engine.storyboard.board import Shot, Storyboard
from tests.nodes.graphs import node

SIDE, STEP_FRAMES, FPS = 32, 8, 16  # segments of 3 latent frames are 8 pixel frames apart


def write_clip(
    folder: Path, name: str, prompts: list[str], side: int = SIDE, seconds: float = STEP_FRAMES / FPS
) -> None:
    """A folder of pictures in which a grey bar moves, and its storyboard."""
    (folder / name).mkdir(parents=True)
    for frame in range(round(len(prompts) * seconds * FPS) + 1):
        pixels = torch.full((side, side, 3), 40, dtype=torch.uint8)
        pixels[:, frame % side] = 200
        Image.fromarray(pixels.numpy()).save(folder / name / f"{frame:04}.png")
    board = Storyboard(tuple(Shot(prompt, seconds) for prompt in prompts), fps=FPS, width=side, height=side)
    (folder / f"{name}.json").write_text(board.to_json(), encoding="utf-8")


def write_dataset(folder: Path, clips: int = 3, segments: int = 2, **more) -> Path:
    for number in range(clips):
        write_clip(folder, f"clip{number}", [f"scene {number} {part}" for part in range(segments)], **more)
    return folder


ONE_STAGE = {
    "stages": "one stage",
    "segments": 1,
    "steps": 2,
    "warmup_steps": 0,
    "rate": 1e-2,
    "end_rate": 1e-3,
    "adapter": "ttt",
}


def weights(layers) -> torch.Tensor:
    """All weights in one row, whatever order a file keeps them in."""
    blocks = [block for _, block in sorted(layers.layers.items())]
    return torch.cat([value.flatten() for block in blocks for _, value in sorted(block.items())])


def graph(tiny, clips: str, run: str, **inputs) -> dict:
    given = {
        "run": run,
        "stages": "one stage",
        **{f"stages.{name}": value for name, value in ONE_STAGE.items() if name != "stages"},
        "batch": 1,
        "segment_latent_frames": 3,
        "seed": 0,
        "held_out": 0,
        "plan_only": False,
    }
    return {
        **tiny.prompt_nodes(),
        "apply": node(
            "LongreelApplyTTT", **{"model": ["model", 0], "weights": "new", "weights.kind": "mlp", "layers": "all"}
        ),
        "dataset": node("LongreelTTTDataset", **{"clips": "folder", "clips.folder": clips}),
        "train": node(
            "LongreelTrainTTT",
            model=["apply", 0],
            clip=["clip", 0],
            vae=["vae", 0],
            dataset=["dataset", 0],
            **{**given, **inputs},
        ),
        "save": node("LongreelSaveTTT", ttt=["train", 0], name=run, stored_as="float32"),
        "report": node("PreviewAny", source=["train", 2]),
        "curve": node("SaveImage", images=["train", 1], filename_prefix="curve"),
    }
