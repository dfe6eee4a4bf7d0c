"""Trains the picture book's transformer together with its text encoder, by flow matching on encoded clips.

Shape world's recipe (demo/train_dit.py: loss, noise, optimisers, average) on 5.4 million numbers, in stages from cheap
to dear: single pictures teach kinds, coats, places and sizes at 16 to 36 tokens each; clips of 64 pixels teach movement
at half the tokens of native ones; then native clips of 1, 5, 6 and 13 latent frames and clips with a cut; and pairs of
shots last, the later of which sees the first in self-attention, as Longreel KV Share shows it. The learning rate is
constant, and falls to nearly nothing in the third stage and again in the fourth. Hours are those of one core.
"""

import random
import time
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

import torch

from .. import dit_net, text_encoder, twin
from .. import train_dit as shape_world
from . import prompts, running
from .book import Page

SHAPE = {"width": 224, "ffn_width": 896, "heads": 7, "layers": 6, "text_width": text_encoder.BOOK_WIDTH}
TOKENS = 5760  # of latents in a step
REPORT_SECONDS = 300  # of work
HELD_OUT = 96  # clips of the first file for the validation loss
LEFT_OUT_LATER = {"coat": 0.7, "kind": 0.6, "movement": 0.1, "place": 0.3}  # of second shots
OTHER_THING = 0.15  # share of the pairs whose second shot shows and names something else
PAIR_GROUP = "clips"


@dataclass(frozen=True)
class Stage:
    """`mixture`: (group of encode.py, latent frames) -> share of the steps. `rates`: of the learning rates, at the
    beginning and at the end; they fall after `hold` of the stage. `pairs`: whether clips come as pairs of shots."""

    hours: float
    mixture: dict[tuple[str, int], float]
    rates: tuple[float, float] = (1.0, 1.0)
    hold: float = 0.0
    pairs: bool = False


STAGES = {
    "pictures": Stage(1.6, {("pictures", 1): 0.6, ("pictures64", 1): 0.4}),
    "small clips": Stage(2.8, {("clips64", 5): 0.65, ("clips64", 6): 0.2, ("pictures", 1): 0.15}),
    "clips": Stage(
        5.6,
        {
            ("clips", 5): 0.42,
            ("clips", 6): 0.14,
            ("cuts", 9): 0.14,
            ("long", 13): 0.10,
            ("clips64", 5): 0.12,
            ("pictures", 1): 0.08,
        },
        rates=(1.0, 0.05),
        hold=0.3,
    ),
    "pairs": Stage(
        2.0,
        {("clips", 5): 0.7, ("clips", 6): 0.1, ("cuts", 9): 0.1, ("long", 13): 0.05, ("clips64", 5): 0.05},
        rates=(0.4, 0.02),
        hold=0.3,
        pairs=True,
    ),
}
HOURS = sum(stage.hours for stage in STAGES.values())
LAST = list(STAGES)[-1]


class Clips:
    """What encode.py wrote: for each group latents [N, 16, F, h, w] float16, the shots' pages, and right frames."""

    def __init__(self, folder: Path) -> None:
        """Read every file of every group into memory; the first clips of PAIR_GROUP are for validation."""
        self.latents: dict[str, torch.Tensor] = {}
        self.pages: dict[str, list[tuple[Page, ...]]] = {}
        self.frames: dict[str, list[int]] = {}
        for group in sorted({file.stem.rsplit("_", 1)[0] for file in folder.glob("*_*.pt")}):
            found = [torch.load(file, weights_only=False) for file in sorted(folder.glob(f"{group}_[0-9]*.pt"))]
            self.latents[group] = torch.cat([one["latents"] for one in found])
            self.pages[group] = [pages for one in found for pages in one["pages"]]
            self.frames[group] = torch.cat([one["latent_frames"] for one in found]).tolist()
        self.numbers: dict[tuple[str, int], list[int]] = {}
        self.looks: dict[int, dict[tuple[str, str, str], list[int]]] = {}

    def enough(self, group: str, frames: int) -> list[int]:
        """The clips of a group that have as many right latent frames."""
        if (group, frames) not in self.numbers:
            first = HELD_OUT if group == PAIR_GROUP else 0
            right = self.frames[group]
            self.numbers[group, frames] = [i for i in range(first, len(right)) if right[i] >= frames]
        return self.numbers[group, frames]

    def clean(self, group: str, numbers: list[int], frames: int) -> torch.Tensor:
        """[B, 16, frames, h, w] float32: the first latent frames of these clips."""
        return self.latents[group][numbers][:, :, :frames].float().contiguous()

    def alike(self, frames: int) -> dict[tuple[str, str, str], list[int]]:
        """By the look of its first thing: the native clips of one thing or more."""
        if frames not in self.looks:
            groups: dict[tuple[str, str, str], list[int]] = {}
            for i in self.enough(PAIR_GROUP, frames):
                if len(self.pages[PAIR_GROUP][i][0].things) == 1:
                    groups.setdefault(self.pages[PAIR_GROUP][i][0].things[0].look, []).append(i)
            self.looks[frames] = groups
        return self.looks[frames]


def draw_clips(clips: Clips, group: str, frames: int, rng: random.Random) -> tuple[list[int], list[str]]:
    """Numbers of the clips of a step, and their sentences."""
    side = clips.latents[group].shape[-1] // dit_net.PATCH
    allowed = clips.enough(group, frames)
    numbers = [rng.choice(allowed) for _ in range(max(4, TOKENS // (side * side * frames)))]
    said = []
    for i in numbers:
        pages = clips.pages[group][i]
        cut = len(pages) == 2 and frames > 5
        said.append(prompts.random_cut_prompt(*pages, rng) if cut else prompts.random_prompt(pages[0], rng))
    return numbers, said


def draw_pairs(clips: Clips, frames: int, rng: random.Random) -> tuple[list[int], list[str]]:
    """Numbers and sentences of first shots, then of the shots that follow them: mostly the same thing, half unsaid."""
    side = clips.latents[PAIR_GROUP].shape[-1] // dit_net.PATCH
    first, second, said_first, said_second = [], [], [], []
    alike = clips.alike(frames)
    looks = [look for look, members in alike.items() if len(members) > 1]
    for _ in range(max(4, TOKENS // (2 * side * side * frames))):
        members = alike[rng.choice(looks)]
        a = rng.choice(members)
        other = rng.random() < OTHER_THING
        b = rng.choice(alike[rng.choice(looks)] if other else members)
        here, there = clips.pages[PAIR_GROUP][a][0], clips.pages[PAIR_GROUP][b][0]
        left_out = dict(LEFT_OUT_LATER)
        if other:
            left_out |= {"coat": 0.0, "kind": 0.0}
        if here.place != there.place:
            left_out["place"] = 0.0
        silent = rng.random() < prompts.EMPTY
        said_first.append("" if silent else prompts.random_prompt(here, rng, empty=0))
        said_second.append(
            "" if silent else prompts.random_prompt(there, rng, left_out=left_out, complete=0.0, empty=0)
        )
        first.append(a)
        second.append(b)
    return first + second, said_first + said_second


def ends(scale: float = 1.0) -> dict[str, float]:
    """The seconds of work at which each stage ends."""
    return dict(zip(STAGES, accumulate(stage.hours * 3600 * scale for stage in STAGES.values()), strict=True))


def stage_at(seconds: float, scale: float = 1.0) -> tuple[str, Stage, float]:
    """The stage at so many seconds of work, and the share of the learning rates there."""
    for name, end in ends(scale).items():
        stage = STAGES[name]
        if seconds < end or name == LAST:
            inside = min(1.0, 1 - (end - seconds) / (stage.hours * 3600 * scale))
            falling = max(0.0, inside - stage.hold) / (1 - stage.hold)
            highest, lowest = stage.rates
            return name, stage, highest + (lowest - highest) * falling
    raise AssertionError("the last stage ends the loop")


class Validation:
    """Clips that are never trained, with whole sentences, always at the same levels and with the same noise."""

    def __init__(self, clips: Clips) -> None:
        """Take 5 latent frames of each clip."""
        rng = random.Random(3)
        self.clean = clips.clean(PAIR_GROUP, list(range(HELD_OUT)), 5)
        self.sentences = [prompts.fitting(pages[0], prompts.EVERYTHING) for pages in clips.pages[PAIR_GROUP][:HELD_OUT]]
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(3))
        self.sigmas = torch.linspace(0.02, 0.99, HELD_OUT)[rng.sample(range(HELD_OUT), HELD_OUT)]

    @torch.no_grad()
    def losses(self, learner: shape_world.Learner) -> torch.Tensor:
        """[HELD_OUT]: of each clip, with the averaged weights."""
        found, where = [], running.device()
        ids = twin.token_ids(learner.encoder, self.sentences)
        with learner.averaged():
            for part in zip(*(t.split(32) for t in (self.clean, self.noise, self.sigmas, ids)), strict=True):
                found.append(shape_world.flow_loss(learner.dit, learner.encoder, *(t.to(where) for t in part)).cpu())
        return torch.cat(found)


Networks = tuple[dit_net.DiT, text_encoder.TextEncoder]


def new_learner(networks: Networks | None = None) -> shape_world.Learner:
    """These networks, or new ones at their size, with their optimisers."""
    dit, encoder = networks or (
        dit_net.DiT(**SHAPE),
        text_encoder.TextEncoder(text_encoder.BOOK_ROWS, text_encoder.BOOK_WIDTH),
    )
    return shape_world.Learner(networks=(dit.to(running.device()), encoder.to(running.device())))


@cache
def compile_blocks() -> None:
    """Compile the transformer's blocks: one small graph for each clip length."""
    torch._dynamo.config.recompile_limit = 64
    dit_net.Block.forward = torch.compile(dit_net.Block.forward, dynamic=False)


def train(work: Path, stop: running.Stop, scale: float = 1.0, until: str = LAST, compiled: bool = True) -> bool:
    """Train to the end of the stage `until`, `scale` times as long as planned -> whether it is done. Keeps WORK/dit.pt.

    WORK/latents must hold the files that the stages before and this one draw from.
    """
    torch.manual_seed(0)
    learner, checkpoint, where = new_learner(), work / "dit.pt", running.device()
    if checkpoint.exists():
        learner.load(checkpoint)
    end, before = ends(scale)[until], learner.seconds
    if before >= end:
        return True
    clips = Clips(work / "latents")
    rng = random.Random(learner.step)
    torch.manual_seed(learner.step)
    if compiled:
        compile_blocks()
    validation = Validation(clips)
    began, saved_at, reported_at = running.worked_seconds(), time.time(), before
    losses: dict[str, list[float]] = {}
    seen = 0
    while learner.seconds < end and not stop:
        stage_name, stage, rate = stage_at(learner.seconds, scale)
        (group, frames), = rng.choices(list(stage.mixture), list(stage.mixture.values()))  # fmt: skip
        pairs = stage.pairs and group == PAIR_GROUP
        numbers, sentences = draw_pairs(clips, frames, rng) if pairs else draw_clips(clips, group, frames, rng)
        clean = clips.clean(group, numbers, frames).to(where)
        sigmas = shape_world.random_sigmas(len(numbers) // 2 if pairs else len(numbers))
        sigmas = (sigmas.repeat(2) if pairs else sigmas).to(where)  # both shots stand at one step of the sampler
        noise = torch.randn_like(clean)
        ids = twin.token_ids(learner.encoder, sentences).to(where)
        loss = shape_world.flow_loss(learner.dit, learner.encoder, clean, noise, sigmas, ids, pairs).mean()
        learner.update(loss, rate * min(1.0, (learner.step + 1) / 100))
        losses.setdefault(f"{group} {frames}", []).append(loss.item())
        seen += len(numbers)
        learner.seconds = before + running.worked_seconds() - began
        finished = learner.seconds >= end
        if learner.seconds - reported_at > REPORT_SECONDS or finished:
            error = validation.losses(learner)
            running.log(
                work, "dit", step=learner.step, seconds=learner.seconds, stage=stage_name, rate=rate,
                clips_per_second=seen / max(1.0, learner.seconds - reported_at),
                validation=error.mean().item(), high_noise=error[validation.sigmas > 0.8].mean().item(),
                train={key: round(sum(values) / len(values), 4) for key, values in sorted(losses.items())},
            )  # fmt: skip
            losses, seen, reported_at = {}, 0, learner.seconds
        if time.time() - saved_at > running.SAVE_SECONDS:
            learner.save(checkpoint)
            saved_at = time.time()
    learner.save(checkpoint)
    return learner.seconds >= end
