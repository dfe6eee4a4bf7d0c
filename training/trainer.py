"""Run one training, from the plan to the finished file: stage after stage, interruptible, and exact when resumed.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3.3). A run is a folder:

    checkpoints/   the last checkpoint (training/checkpoint.py)
    loss.png       drawn at every checkpoint
    samples/       a page for every validation, where the caller samples
    ttt.safetensors  the layers as they are now, averaged over time, at every checkpoint
    ttt.others.safetensors  the other weights that were trained, if any; those of earlier stages as these left them

The run goes on from its checkpoint whenever there is one. On a CPU the result is then the same to the bit as without
the interruption; on a GPU as far as its kernels are. Which model, VAE and text encoder there are is not known here.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image

from ..engine.sampling.denoising import loss_per_video
from . import checkpoint, draws
from .config import Config
from .dataset import Part, check_unchanged, manifest
from .optimise import Optimiser
from .parallel import ALONE, World
from .plan import NOTHING_MEASURED, Measured, Plan, PlannedStage, measure
from .report import Row, learned, loss_curve, sample_page
from .schedule import rates_at
from .shards import Shards, copy_into, whole
from .stage_clips import StageClips
from .stages import Stage
from .student import OTHERS, TTT, Conditioning, Sampler, Student

LAYERS_FILE, OTHERS_FILE = "ttt.safetensors", "ttt.others.safetensors"
CURVE_FILE, SAMPLES, CHECKPOINTS = "loss.png", "samples", "checkpoints"
OUTSIDE_INFERENCE = torch.inference_mode(False)  # in which ComfyUI runs nodes, and whose tensors have no gradients
HELD_OUT_DRAWS = 4  # levels of noise at which each held-out clip is measured
CHECKPOINTS_AT_ONCE = 2  # the old one goes when the new one is there


@dataclass(frozen=True)
class Progress:
    """This says that `done` of all steps are made; `row` is the last one's, `stage` the one it belongs to."""

    done: int
    all: int
    stage: Stage
    row: Row

    def __str__(self) -> str:
        """Return a line for people."""
        return f"stage {self.stage.name}, step {self.done} of {self.all}, loss {self.row.loss:.4f}"


@dataclass
class Position:
    """This is where a run stands: the stage and its step that come next, and what has been recorded so far.
    left_behind: weights that earlier stages trained and the current one does not, by name.
    """

    stage: int = 0
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    left_behind: dict[str, torch.Tensor] = field(default_factory=dict)


class Trainer:
    """This is a run of `config` on its clips: call `prepare`, look at `plan`, then `train`, and read the `report`.

    sample: of the student, None for no pictures of what it has learned. Every process of `world` makes a Trainer of its
    own, and several divide the student's weights and all that training keeps of them.

    Raises ValueError for a data set, student, recipe or setting other than those of the run that the folder holds,
    weights that several processes cannot divide, and a disk without room for checkpoints.
    """

    @OUTSIDE_INFERENCE
    def __init__(
        self, student: Student, clips: StageClips, config: Config, world: World = ALONE, sample: Sampler | None = None
    ) -> None:
        """Begin the run, or go on from the last checkpoint in the run's folder."""
        self.student, self.clips, self.config, self.world, self.sample = student, clips, config, world, sample
        self.folder = Path(config.folder)
        for stage in config.stages:
            world.share(stage.batch)
        world.check_same(student.identity, "models")
        found = checkpoint.load_last(self.folder / CHECKPOINTS)
        if found is not None:
            check_unchanged(found.about["dataset"], clips.clips)
            self._check_same_run(found)
        self.shards = self._divide() if world.size > 1 else None
        if found is None:
            self.position, self.optimiser = Position(), self._new_optimiser(config.stages[0])
        else:
            self.position = _position_of(found)
            self.optimiser = self._optimiser_of(found)

    @property
    def steps(self) -> int:
        """Return the steps of all stages together."""
        return sum(stage.steps for stage in self.config.stages)

    @property
    def steps_made(self) -> int:
        """Return the steps of the optimiser that the run has made, over all stages."""
        return len(self.position.rows)

    @OUTSIDE_INFERENCE
    def prepare(self, tell: Callable[[int, int], None] | None = None) -> int:
        """Encode what the cache does not have yet, and return how many files this process made. See
        StageClips.prepare.
        """
        made = self.clips.prepare(tell, self.world.rank, self.world.size)
        self.world.wait()
        return made

    @OUTSIDE_INFERENCE
    def plan(self) -> Plan:
        """Return the plan, measured on one step, which changes nothing. Raises ValueError where the disk has no room
        for checkpoints.
        """
        position, stages, measured = self.position, [], NOTHING_MEASURED
        for number in range(position.stage, len(self.config.stages)):
            stage = self.config.stages[number]
            trained = self._parameters(stage)
            conditioning = self.clips.conditioning(self.clips.trained[number][0])
            layout = self.student.layout(
                self.clips.geometry.latent_shape(stage.segments),
                {name: value[None] for name, value in conditioning.items()},
                self.clips.geometry.windows(stage.segments),
            )
            left = stage.steps - (position.step if number == position.stage else 0)
            stages.append(
                PlannedStage(
                    stage,
                    left,
                    len(self.clips.trained[number]),
                    self.clips.geometry.latent_frames(stage.segments),
                    layout.tokens,
                    sum(value.numel() for group in trained.values() for value in group.values()),
                )
            )
        if stages:
            measured = self._measure(stages[0].stage)
        state = checkpoint.bytes_of(self._tensors())
        checkpoint.check_room(self.folder, CHECKPOINTS_AT_ONCE * state)
        return Plan(
            tuple(stages),
            measured,
            self.config.training.micro_batch,
            self.world.size,
            state,
            str(self.student.device),
            len(position.rows),
        )

    def _measure(self, stage: Stage) -> Measured:
        self._parameters(stage)
        self.student.checkpoint(stage.scan_chunks, stage.checkpoint_blocks)
        places = list(self.world.share(stage.batch)[: self.config.training.micro_batch])

        def forward_backward() -> None:
            self._losses(stage, 0, places).mean().backward()
            self.optimiser.clear()

        with torch.enable_grad():
            return measure(forward_backward, self.student.device)

    @OUTSIDE_INFERENCE
    def train(self, tell: Callable[[Progress], None] | None = None) -> Path:
        """Make every step that is left, and return the file of the finished layers.

        tell: called after each step; what it raises ends the run after a checkpoint, from which it can go on.
        Raises ValueError where gradients are no numbers, OSError where the disk is full; the last checkpoint stays.
        """
        stages, position = self.config.stages, self.position
        while position.stage < len(stages):
            stage = stages[position.stage]
            self.student.checkpoint(stage.scan_chunks, stage.checkpoint_blocks)
            while position.step < stage.steps:
                position.rows.append(self._step(stage, position.step))
                position.step += 1
                done = len(position.rows)
                at_end = position.step == stage.steps
                if at_end or done % self.config.training.validate_every == 0:
                    self._validate(done)
                if done % self.config.training.checkpoint_every == 0 and not at_end:
                    self._save()
                self._tell(tell, Progress(done, self.steps, stage, position.rows[-1]))
            self._next_stage()
            self._save()
        return self.folder / LAYERS_FILE

    def curve(self) -> Image.Image:
        """Return the loss of every step so far."""
        borders, first = [], 0
        for stage in self.config.stages:
            if first < max(1, len(self.position.rows)):
                borders.append((first, stage.name))
            first += stage.steps
        return loss_curve([row.loss for row in self.position.rows], self.position.held_out, borders)

    def report(self) -> str:
        """Return what came of the run so far, as lines for people: losses, and the files that are there."""
        lines = learned([row.loss for row in self.position.rows], self.position.held_out)
        lines.append(f"layers: {self.folder / LAYERS_FILE}")
        pages = sorted((self.folder / SAMPLES).glob("*.png"))
        lines += [f"samples: {len(pages)} pages, the last one {pages[-1]}"] if pages else []
        others = self.folder / OTHERS_FILE
        if others.is_file():
            lines.append(f"the other weights that were trained: {others}, for core's Load LoRA (Model)")
        return "\n".join(lines)

    def _tell(self, tell: Callable[[Progress], None] | None, progress: Progress) -> None:
        if tell is None:
            return
        try:
            tell(progress)
        except BaseException:  # whatever ends the run, what it has learned is kept
            self._save()
            raise

    def _step(self, stage: Stage, step: int) -> Row:
        """Make one step of the optimiser."""
        places = list(self.world.share(stage.batch))
        if self.shards:
            self.shards.begin()
        try:
            summed = self._gather(stage, step, places)
        except BaseException:  # Cancel in the graph comes from inside the model; the weights are the last step's still
            if self.world.size == 1:  # one process of several cannot wait for the others to save
                self._save()
            raise
        if self.shards:  # gradients are means over the processes already
            for name in self.shards.unused(self.optimiser.parameters):
                self.optimiser.masters[name].grad = None
        rates = rates_at(stage, step)
        norm = self.optimiser.step(rates)
        dropped = sum(self._drops_text(stage, step, place) for place in range(stage.batch))
        return Row(self.world.mean(summed / len(places)), norm, rates[TTT], float(dropped))

    def _gather(self, stage: Stage, step: int, places: list[int]) -> float:
        """Gather the mean gradients of the videos at these places in the optimiser, and return the sum of their
        losses.
        """
        size, summed = self.config.training.micro_batch, 0.0
        with torch.enable_grad():
            for first in range(0, len(places), size):
                found = self._losses(stage, step, places[first : first + size])
                (found.sum() / len(places)).backward()
                self.optimiser.gather()
                summed += float(found.detach().sum())
        return summed

    def _losses(self, stage: Stage, step: int, places: list[int]) -> torch.Tensor:
        """Return the losses [len(places)] of the videos at these places of the step's batch."""
        seed, number = self.config.seed, self.config.stages.index(stage)
        order = draws.order(seed, stage.name, step, stage.batch, len(self.clips.trained[number]))
        parts = [self.clips.trained[number][order[place]] for place in places]
        unconditional = [self._drops_text(stage, step, place) for place in places]
        levels = self.student.objective.draw_levels(draws.generator(seed, stage.name, "levels", step), stage.batch)
        noise = [
            draws.noise(seed, stage.name, step, place, self.clips.geometry.latent_shape(stage.segments))
            for place in places
        ]
        return self._compare(parts, unconditional, levels[places], torch.stack(noise))

    def _compare(
        self, parts: Sequence[Part], unconditional: Sequence[bool], levels: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each part [B] at levels [B] with noise [B, C, F, h, w]; unconditional: shown without
        prompts.
        """
        device, objective = self.student.device, self.student.objective
        clean = torch.stack([self.clips.latent(part) for part in parts]).to(device)  # [B, C, F, h, w]
        stories = [self.clips.conditioning(*shown) for shown in zip(parts, unconditional, strict=True)]
        conditioning: Conditioning = {
            name: torch.stack([story[name] for story in stories]).to(device) for name in stories[0]
        }
        levels, noise = levels.to(device), noise.to(device)
        prediction = self.student.predict(
            objective.noise(clean, noise, levels), levels, conditioning, self.clips.geometry.windows(parts[0].segments)
        )
        return loss_per_video(prediction, objective.target(clean, noise, levels))

    def _drops_text(self, stage: Stage, step: int, place: int) -> bool:
        return draws.drops_text(self.config.seed, stage.name, step, place, self.config.training.text_dropout)

    def _validate(self, done: int) -> None:
        """Measure the held-out clips' loss with the averaged weights, always at the same levels and noise; and show
        samples.
        """
        number = self.position.stage
        parts, seed = self.clips.held_out[number], self.config.seed
        with self.optimiser.averaged(), torch.no_grad():
            found = []
            for first in range(0, len(parts), self.world.size):
                # Where parts run out, the last one is shown and not counted: all evaluate equally often.
                place = first + self.world.rank
                shown = min(place, len(parts) - 1)
                levels = self.student.objective.draw_levels(draws.generator(seed, "held out", shown), HELD_OUT_DRAWS)
                for draw, level in enumerate(levels.split(1)):
                    noise = draws.noise(
                        seed, "held out", draw, shown, self.clips.geometry.latent_shape(parts[shown].segments)
                    )
                    loss = self._compare([parts[shown]], [False], level, noise[None])
                    if place == shown:
                        found.append(loss)
            # The processes' shares may differ in size: their sums are averaged, not their means.
            summed = self.world.mean(float(torch.cat(found).sum()) if found else 0.0) * self.world.size
            if parts:
                self.position.held_out.append((done, summed / (len(parts) * HELD_OUT_DRAWS)))
            if self.sample is not None:
                videos = self.sample()  # by all processes, for each holds a part of the weights
                if self.world.speaks:
                    folder = self.folder / SAMPLES
                    folder.mkdir(parents=True, exist_ok=True)
                    sample_page(videos).save(folder / f"{done:08}.png")
        self.world.wait()

    def _parameters(self, stage: Stage) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the parameters of a stage, and `others` only where it trains some."""
        found = self.student.parameters_of(stage.adapter)
        return {group: found[group] for group in (TTT, OTHERS) if found.get(group)}

    def _divide(self) -> Shards:
        """Divide the weights; what any stage trains has then the dtype that it is trained in, as a process's part of a
        unit must have.
        """
        trained = {
            name: parameter
            for stage in self.config.stages
            for group in self._parameters(stage).values()
            for name, parameter in group.items()
        }
        return Shards(self.student.units(), trained, self.world)

    def _new_optimiser(self, stage: Stage) -> Optimiser:
        training = self.config.training
        return Optimiser(
            self._parameters(stage), training.weight_decay, training.betas, training.clip_norm, training.ema
        )

    def _optimiser_of(self, found: checkpoint.Checkpoint) -> Optimiser:
        """Put the student's weights back to where a checkpoint stands, and return the optimiser that goes on from
        there.
        """
        stages, tensors = self.config.stages, found.tensors
        for stage in stages[: self.position.stage]:
            for group in self._parameters(stage).values():
                for name, parameter in group.items():
                    copy_into(parameter, tensors[f"left.{name}" if f"left.{name}" in tensors else f"weight.{name}"])
        if self.position.step == 0 and self.position.stage < len(stages):
            return self._enter_stage(tensors)
        optimiser = self._new_optimiser(stages[min(self.position.stage, len(stages) - 1)])
        optimiser.load(tensors)
        return optimiser

    def _next_stage(self) -> None:
        self.position.stage, self.position.step = self.position.stage + 1, 0
        if self.position.stage < len(self.config.stages):
            self.optimiser = self._enter_stage(self.optimiser.state())

    def _enter_stage(self, before: dict[str, torch.Tensor]) -> Optimiser:
        """Return the optimiser of the stage that begins, from the state of the one before it.

        The weights and their average go on, and AdamW's moments begin anew, as in the paper's runs.
        """
        left, known = self.position.left_behind, dict(before)
        for name, value in left.items():
            known |= {f"weight.{name}": value, f"average.{name}": value}
        optimiser = self._new_optimiser(self.config.stages[self.position.stage])
        optimiser.carry_over(known)
        weights = {name.removeprefix("weight."): value for name, value in known.items() if name.startswith("weight.")}
        self.position.left_behind = {
            name: value.detach().clone() for name, value in weights.items() if name not in optimiser.masters
        }
        return optimiser

    def _tensors(self) -> dict[str, torch.Tensor]:
        position = self.position
        rows = torch.tensor([list(row) for row in position.rows], dtype=torch.float64).view(-1, len(Row._fields))
        return (
            self.optimiser.state()
            | {"rows": rows}
            | {f"left.{name}": value for name, value in position.left_behind.items()}
        )

    def _save(self) -> None:
        """Save a checkpoint, the loss curve and the layers: put together by all processes, written by one."""
        speaks, tensors = self.world.speaks, {}
        for name, value in self._tensors().items():
            value = whole(value)
            if speaks:
                tensors[name] = value.cpu()
        if speaks:
            position = self.position
            about = {
                "stage": position.stage,
                "step": position.step,
                "held_out": position.held_out,
                "stages": [asdict(stage) for stage in self.config.stages],
                "settled": self.config.settled(),
                "dataset": manifest(self.clips.clips),
                "student": self.student.identity,
            }
            checkpoint.save(self.folder / CHECKPOINTS, len(position.rows), tensors, about)
            self.curve().save(self.folder / CURVE_FILE)
        with self.optimiser.averaged(), self.shards.gathered() if self.shards else nullcontext():
            if speaks:
                self._save_weights()
        self.world.wait()

    def _save_weights(self) -> None:
        self.student.save(self.folder / LAYERS_FILE, self.clips.geometry.segment_latent_frames, self.config.title)
        stage = self.config.stages[min(self.position.stage, len(self.config.stages) - 1)]
        others = {*self.position.left_behind, *self._parameters(stage).get(OTHERS, {})}
        if others:
            self.student.save_others(self.folder / OTHERS_FILE, others, self.config.title)

    def _check_same_run(self, found: checkpoint.Checkpoint) -> None:
        """Raise ValueError where this is not the run that a checkpoint was made in."""
        about = found.about
        if about["student"] != self.student.identity:
            raise ValueError(
                f"{self.folder} holds a run of another model, {len(found.tensors['rows'])} steps long: "
                f"{about['student']} then, {self.student.identity} now; start a new run folder"
            )
        before, now = about["settled"], self.config.settled()
        for name in sorted(set(before) | set(now)):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{self.folder} holds a run with {name} {before.get(name)}, and now it is "
                    f"{now.get(name)}; change it back, or start a new run folder"
                )
        begun = [Stage(**stage) for stage in about["stages"]][: about["stage"] + 1]
        for number, stage in enumerate(begun):
            ours = self.config.stages[number] if number < len(self.config.stages) else None
            if ours is None or replace(ours, scan_chunks=0, checkpoint_blocks=True) != replace(
                stage, scan_chunks=0, checkpoint_blocks=True
            ):
                raise ValueError(
                    f"{self.folder} holds a run whose stage {number + 1} of {len(begun)} begun is "
                    f"{stage}, and now it is {ours}; change it back, or start a new run folder"
                )


def _position_of(found: checkpoint.Checkpoint) -> Position:
    """Return where the run of a checkpoint stands."""
    about, tensors = found.about, found.tensors
    return Position(
        about["stage"],
        about["step"],
        [Row(*row) for row in tensors["rows"].tolist()],
        [(step, loss) for step, loss in about["held_out"]],
        {name.removeprefix("left."): value for name, value in tensors.items() if name.startswith("left.")},
    )
