"""Timelines and layers for the tests of hosts/ttt/apply*.py, on the tiny models."""

import torch

import comfy.model_base
import comfy.sample
import comfy.samplers

from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.files import LoadedTTT
from longreel.engine.ttt.layer import GATED_DELTA, LACT, MLP, OWN, SLIDING_WINDOW, TTTConfig
from longreel.hosts import block_count, facts_of, family_of
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler

FPS = 16.0
FRAME_SECONDS = {stride: stride / FPS for stride in (4, 8)}
CHUNK = 16


def plan(
    loaded,
    shots: int = 3,
    frames: int = 4,
    transition: str = "cut",
    prompts: list[str] | None = None,
    segment: int | None = None,
    overlap: int = 2,
    first: int | None = None,
    **shot,
) -> Timeline:
    """`shots` shots of so many latent frames (the first: `first`), one segment each unless `segment` says otherwise.
    Even numbers, so that CogVideoX 1.5, which reads two as one, borders where others do."""
    facts = facts_of(loaded.model)
    unit = FRAME_SECONDS[facts.temporal_stride]
    texts = prompts or [f"scene {number}" for number in range(shots)]
    # The first latent frame is one pixel frame: so many fewer seconds.
    counts = [first or frames] + [frames] * (shots - 1)
    board = Storyboard(
        tuple(
            Shot(
                text,
                unit * count - (unit - 1 / FPS if not number else 0),
                transition=transition if number else "continue",
                **(shot if number == 1 else {}),
            )
            for number, (text, count) in enumerate(zip(texts, counts, strict=True))
        ),
        width=64,
        height=64,
        fps=FPS,
        negative="blurry",
    )
    timeline = plan_timeline(board, facts, segment_frames=segment or max(counts), overlap_frames=overlap)
    assert [shot.latent_frames for shot in timeline.shots] == counts
    return timeline


def encode(loaded, timeline: Timeline) -> tuple[list, list]:
    with torch.inference_mode():
        return conditioning.encode_timeline(loaded.clip, timeline)


def noise_for(timeline: Timeline, seed: int = 0, batch: int = 1) -> torch.Tensor:
    facts = timeline.facts
    shape = (
        batch,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def denoise(
    model, conds: tuple[list, list], noise: torch.Tensor, steps: int = 1, cfg: float = 3.0, mask=None
) -> torch.Tensor:
    """Core's sampling from this very noise; with one step the result is what the network takes for the clean video."""
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    alpha_space = isinstance(model.model, comfy.model_base.CogVideoX)
    sampler = AlphaSpaceSampler("ddim", eta=0.0) if alpha_space else comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model, noise, cfg, sampler, sigmas, *conds, torch.zeros_like(noise), noise_mask=mask, disable_pbar=True
        )


def layers(model, kind: str = MLP, gate: float = 0.5, chunk: int = CHUNK, seed: int = 0, **changed) -> LoadedTTT:
    """Random layers of this model whose gates are open, as a file would hold them."""
    width, blocks = family_of(model).width(model.model.diffusion_model), block_count(model)
    learns = {GATED_DELTA: (chunk, 1.0), SLIDING_WINDOW: (1, 1.0), LACT: (2, 0.1)}.get(kind, (chunk, 8.0))
    config = TTTConfig(kind, width, width // 16, *learns, rates=OWN)
    torch.manual_seed(seed)
    held = {}
    for number in range(blocks):
        block = TTTBlock(config)
        for name, value in block.named_parameters():
            torch.nn.init.normal_(value, mean=1.0 if name.endswith("norm_weight") else 0.0, std=0.2)
            if name.startswith(("forward", "backward")):
                torch.nn.init.constant_(value, gate)
        held[number] = {name: value.detach() for name, value in block.state_dict().items()}
    given = {
        "layers": held,
        "config": config,
        "family": facts_of(model).family,
        "segment_latent_frames": 4,
        "blocks": blocks,
    }
    return LoadedTTT(**{**given, **changed})
