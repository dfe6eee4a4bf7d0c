"""Run one training of an anchor LoRA: a network learns to go on from a clean frame among noisy ones.

Source: Factorized, now Anchored, Video Generation (arXiv 2512.16371), as docs/anchor.md (The method) tells it: in a
clip at noise level t one latent frame, drawn at random, is the clean anchor, at time 0. Whether the paper leaves the
anchor out of the loss is not known; here it is, for there is nothing to predict in it. A run is a folder:

    checkpoints/            the last checkpoint (training/checkpoint.py)
    loss.png                drawn at every checkpoint
    anchor_lora.safetensors the LoRA as it is now, averaged over time, at every checkpoint

The run goes on from its checkpoint whenever there is one, on a CPU to the bit as without the interruption. Which model
and clips there are is not known here.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from ..engine.lora.low_rank import attach, layers_of, parameters_of, weights_of
from ..engine.runs.whole_file import save_whole
from . import checkpoint, draws
from .anchor_config import AnchorConfig
from .anchor_student import AnchorStudent, Clips
from .optimise import Optimiser
from .report import Row, learned, loss_curve
from .trainer import OUTSIDE_INFERENCE

LORA_FILE, CURVE_FILE, CHECKPOINTS = "anchor_lora.safetensors", "loss.png", "checkpoints"
STAGE, GROUP = "anchor", "lora"
LEVELS_DRAWN = 1024  # for each that is used, so that a narrow range of noise finds enough
HELD_OUT_DRAWS = 4  # levels of noise at which each held-out clip is measured
MAY_CHANGE = ("steps", "micro_batch", "checkpoint_every", "validate_every")  # of a run that goes on


class AnchorTrainer:
    """This is a run of `config`; call `train`.

    Raises ValueError for targets that fit no layer, no clips, and a model, clips or settings other than those of the
    run that the folder holds.
    """

    @OUTSIDE_INFERENCE
    def __init__(self, student: AnchorStudent, clips: Clips, config: AnchorConfig):
        self.student, self.clips, self.config = student, clips, config
        self.lora, self.folder = config.lora, Path(config.folder)
        if not clips.trained:
            raise ValueError("there are no clips to train on; put some into the data folder")
        layers = layers_of(student.network, self.lora.patterns)
        self.adapters = attach(layers, self.lora.rank, self.lora.alpha or self.lora.rank, config.seed)
        self.optimiser = Optimiser(
            {GROUP: parameters_of(self.adapters)},
            self.lora.weight_decay,
            clip_norm=self.lora.clip_norm,
            ema=self.lora.ema,
        )
        self.rows: list[Row] = []
        self.held_out: list[tuple[int, float]] = []
        self.settled = json.loads(
            json.dumps(
                {
                    "seed": config.seed,
                    "student": student.identity,
                    "clips": clips.identity,
                    **{name: value for name, value in asdict(self.lora).items() if name not in MAY_CHANGE},
                }
            )
        )
        found = checkpoint.load_last(self.folder / CHECKPOINTS)
        if found is not None:
            self._go_on(found)

    @property
    def parameters(self) -> int:
        """Return how many numbers are trained."""
        return sum(value.numel() for value in self.optimiser.parameters.values())

    @OUTSIDE_INFERENCE
    def train(self, tell: Callable[[int, Row], None] | None = None) -> Path:
        """Make every step that is left, and return the file of the finished LoRA.

        tell(steps made, the last one's row): called after each step; what it raises ends the run after a checkpoint.
        Raises ValueError where gradients are no numbers, OSError where the disk is full; the last checkpoint stays.
        """
        while len(self.rows) < self.lora.steps:
            self.rows.append(self._step(len(self.rows)))
            done = len(self.rows)
            if done == self.lora.steps or done % self.lora.validate_every == 0:
                self._validate(done)
            if done == self.lora.steps or done % self.lora.checkpoint_every == 0:
                self._save()
            if tell is not None:
                try:
                    tell(done, self.rows[-1])
                except BaseException:  # whatever ends the run, what it has learned is kept
                    self._save()
                    raise
        return self.folder / LORA_FILE

    def curve(self) -> Image.Image:
        """Return the loss of every step so far."""
        return loss_curve([row.loss for row in self.rows], self.held_out)

    def summary(self) -> str:
        """Return what is trained on what, as a line for people."""
        return f"{len(self.adapters)} layers, {self.parameters / 1e6:.2f} M numbers, {len(self.clips.trained)} clips"

    def report(self) -> str:
        """Return the summary, and what came of the run so far, as lines for people."""
        return "\n".join([self.summary(), *learned([row.loss for row in self.rows], self.held_out)])

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, counted from 0: a line up, then a cosine down to the end rate at the last
        step.
        """
        lora = self.lora
        if step < lora.warmup_steps:
            return lora.rate * (step + 1) / lora.warmup_steps
        passed = (step + 1 - lora.warmup_steps) / max(1, lora.steps - lora.warmup_steps)  # (0, 1]
        return lora.rate + (lora.end_rate - lora.rate) * (1 - math.cos(math.pi * passed)) / 2

    def _step(self, step: int) -> Row:
        lora, seed = self.lora, self.config.seed
        chosen = draws.order(seed, STAGE, step, lora.batch, len(self.clips.trained))
        unconditional = [draws.drops_text(seed, STAGE, step, place, lora.text_dropout) for place in range(lora.batch)]
        levels = self._draw_levels(draws.generator(seed, STAGE, "levels", step), lora.batch)
        summed = 0.0
        with torch.enable_grad():
            for first in range(0, lora.batch, lora.micro_batch):
                places = range(first, min(first + lora.micro_batch, lora.batch))
                found = self._losses(
                    [self.clips.trained[chosen[place]] for place in places],
                    [unconditional[place] for place in places],
                    levels[places.start : places.stop],
                    [(STAGE, step, place) for place in places],
                )
                (found.sum() / lora.batch).backward()
                self.optimiser.gather()
                summed += float(found.detach().sum())
        rate = self.rate_at(step)
        norm = self.optimiser.step({GROUP: rate})
        return Row(summed / lora.batch, norm, rate, float(sum(unconditional)))

    def _losses(
        self,
        numbers: Sequence[int],
        unconditional: Sequence[bool],
        levels: torch.Tensor,
        where: Sequence[tuple[str, int, int]],
    ) -> torch.Tensor:
        """Return the losses [B] of the clips, each with the anchor and the noise that its place `where` in the run
        draws.
        """
        device, objective = self.student.device, self.student.objective
        clean = torch.stack([self.clips.latent(number) for number in numbers])  # [B, C, F, h, w]
        noise = torch.stack(
            [draws.noise(self.config.seed, *place, tuple(one.shape)) for place, one in zip(where, clean, strict=False)]
        )
        anchors, is_anchor = clean.clone(), torch.zeros(len(numbers), clean.shape[2])
        for row, (number, place) in enumerate(zip(numbers, where, strict=False)):
            frames, still = self._anchor(number, clean.shape[2], draws.generator(self.config.seed, *place, "anchor"))
            is_anchor[row, frames] = 1.0
            if still is not None:
                anchors[row, :, frames] = still[:, None]
        texts = [self.clips.conditioning(*shown) for shown in zip(numbers, unconditional, strict=True)]
        conditioning = {name: torch.stack([text[name] for text in texts]).to(device) for name in texts[0]}
        clean, anchors, noise, is_anchor, levels = (x.to(device) for x in (clean, anchors, noise, is_anchor, levels))
        there = is_anchor[:, None, :, None, None]
        noised = torch.where(there > 0, anchors, objective.noise(clean, noise, levels))
        said = self.student.predict(noised, levels, conditioning, is_anchor)
        error = (said.float() - objective.target(clean, noise, levels).float()).square().mean((1, 3, 4))  # [B, F]
        return (error * (1 - is_anchor)).sum(1) / (1 - is_anchor).sum(1)

    def _anchor(self, number: int, frames: int, generator: torch.Generator) -> tuple[slice, torch.Tensor | None]:
        """Return the latent frames of the anchor, and [C, h, w] of a picture in their place, None for the
        clip's own.
        """
        tokens = self.student.facts.patch_frames  # a token has one time for all its latent frames
        first, at_all, still = torch.rand(3, generator=generator).tolist()
        if first < self.lora.first_share:
            return slice(0, tokens), None
        picture = self.clips.still(number) if still < self.lora.still_share else None
        frame, latent = (int(at_all * frames), None) if picture is None else picture
        start = frame // tokens * tokens
        return slice(start, start + tokens), latent

    def _draw_levels(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """Draw [count] of the objective's own levels, from the part of the schedule that is trained."""
        lora, top = self.lora, self.student.top_level
        if (lora.noise_from, lora.noise_to) == (0.0, 1.0):
            return self.student.objective.draw_levels(generator, count)
        drawn = self.student.objective.draw_levels(generator, LEVELS_DRAWN * count)
        inside = drawn[(drawn >= lora.noise_from * top) & (drawn <= lora.noise_to * top)]
        if len(inside) < count:
            raise ValueError(
                f"{len(inside)} of {len(drawn)} noise levels are between noise_from {lora.noise_from:g} and "
                f"noise_to {lora.noise_to:g}, and a step needs {count}; widen the range"
            )
        return inside[:count]

    def _validate(self, done: int) -> None:
        """Measure the held-out clips' loss with the averaged weights, always at the same levels, noise and
        anchors.
        """
        if not self.clips.held_out:
            return
        with self.optimiser.averaged(), torch.no_grad():
            found = []
            for place, number in enumerate(self.clips.held_out):
                levels = self._draw_levels(draws.generator(self.config.seed, "held out", place), HELD_OUT_DRAWS)
                found.append(
                    self._losses(
                        [number] * HELD_OUT_DRAWS,
                        [False] * HELD_OUT_DRAWS,
                        levels,
                        [("held out", place, draw) for draw in range(HELD_OUT_DRAWS)],
                    )
                )
        self.held_out.append((done, float(torch.cat(found).mean())))

    def _save(self) -> None:
        rows = torch.tensor([list(row) for row in self.rows], dtype=torch.float64).view(-1, len(Row._fields))
        checkpoint.save(
            self.folder / CHECKPOINTS,
            len(self.rows),
            {**self.optimiser.state(), "rows": rows},
            {"settled": self.settled, "held_out": self.held_out},
        )
        self.curve().save(self.folder / CURVE_FILE)
        with self.optimiser.averaged():
            halves = {name: value.half() if value.ndim else value for name, value in weights_of(self.adapters).items()}
        about = {"title": self.config.title, "longreel": "anchor LoRA", "steps": str(len(self.rows))}
        save_whole(self.folder / LORA_FILE, {name: value.contiguous() for name, value in halves.items()}, about)

    def _go_on(self, found: checkpoint.Checkpoint) -> None:
        before = found.about["settled"]
        for name in sorted(set(before) | set(self.settled)):
            if before.get(name) != self.settled.get(name):
                raise ValueError(
                    f"{self.folder} holds a run of {len(found.tensors['rows'])} steps with {name} "
                    f"{_short(before.get(name))}, and now it is {_short(self.settled.get(name))}; change it "
                    f"back, or start a new run folder"
                )
        self.rows = [Row(*row) for row in found.tensors["rows"].tolist()]
        self.held_out = [(step, loss) for step, loss in found.about["held_out"]]
        self.optimiser.load(found.tensors)
        self.optimiser.write_back()


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
