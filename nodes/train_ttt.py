"""Train TTT layers in the graph: choose a data set, train, save the layers into models/ttt."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import folder_paths
from comfy_api.latest import io, ui

from ..engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from ..hosts.families import facts_of
from ..hosts.training.encoder import TTTEncoder
from ..hosts.training.progress import TrainingProgress
from ..hosts.ttt.samples import StorySampler
from ..hosts.ttt.student import TTTStudent
from ..training.collect import Spoken, collect
from ..training.config import Config, Data, Training
from ..training.dataset import find_clips, size_of
from ..training.stages import ADAPTERS, LAYERS, PAPER, Stage, scaled
from ..training.trainer import OTHERS_FILE, SAMPLES, Progress, Trainer
from .folders import free_file, input_folder
from .sockets import TTTDatasetSocket, TTTSocket
from .ttt import FOLDER as TTT_FOLDER

RUNS, DATASETS, CACHE = "longreel/ttt", "longreel/datasets", "longreel/cache"  # below ComfyUI's output folder
NAME = re.compile(r"[\w][\w .-]{0,99}")
FROM_FOLDER, FROM_WIRES = "folder", "videos"
ONE_STAGE, PAPERS = "one stage", "paper"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
COMPUTED_IN = ("bfloat16", "float32")
LAST_STAGES = [stage.name for stage in PAPER["mlp"]]


class LongreelTTTDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelTTTDataset",
            display_name="Longreel TTT Dataset",
            category="Longreel/training",
            description="Clips with a prompt for every segment, for Longreel Train TTT: a folder, or what ComfyUI's "
            "own data set nodes load and cut.",
            search_aliases=["training data", "video dataset", "test-time training"],
            is_input_list=True,
            inputs=[
                io.DynamicCombo.Input(
                    "clips",
                    tooltip=(
                        "folder: clips and their storyboards in ComfyUI's input folder. videos: from Load Video-Text (from "
                        "Folder) or any nodes that hand on lists of videos and texts."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            FROM_FOLDER,
                            [
                                io.Combo.Input(
                                    "folder",
                                    options=folder_paths.get_input_subfolders(),
                                    tooltip=(
                                        "A folder below ComfyUI's input: name.mp4 (or a folder of pictures, or a latent) "
                                        "beside name.json, a storyboard."
                                    ),
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            FROM_WIRES,
                            [
                                io.Video.Input("videos", tooltip="One for each clip, all of one size and frame rate."),
                                io.String.Input(
                                    "texts",
                                    force_input=True,
                                    tooltip=(
                                        "One for each clip: a prompt in each line, one line for each segment; or a "
                                        "storyboard's JSON."
                                    ),
                                ),
                                io.Float.Input(
                                    "segment_seconds",
                                    default=3.0,
                                    min=0.01,
                                    max=3600.0,
                                    step=0.01,
                                    tooltip=("Length of the segment that one line speaks of; 3 as in the paper."),
                                ),
                                io.String.Input(
                                    "name",
                                    default="clips",
                                    tooltip=(
                                        "Name of the folder below output/longreel/datasets that the clips are written to."
                                    ),
                                ),
                            ],
                        ),
                    ],
                )
            ],
            outputs=[
                TTTDatasetSocket.Output(display_name="dataset"),
                io.String.Output(display_name="summary", tooltip="How many clips there are, and where they lie."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, clips=None) -> float | tuple:
        folder = _only(clips, "folder") if isinstance(clips, dict) else None
        if not folder:
            return float("nan")  # unlike itself: what comes through wires is looked at on every run
        files = sorted(path for path in input_folder(folder).rglob("*") if path.is_file())
        return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)

    @classmethod
    def execute(cls, clips) -> io.NodeOutput:
        if _only(clips, "clips") == FROM_FOLDER:
            folder = input_folder(_only(clips, "folder"))
        else:
            videos, texts = clips["videos"], clips["texts"]
            if len(videos) != len(texts):
                raise ValueError(f"{len(videos)} videos come with {len(texts)} texts; wire one text for each video")
            name = _checked_name("name", _only(clips, "name"))
            folder = collect(
                _output(DATASETS),
                name,
                (_spoken(*pair) for pair in zip(videos, texts)),
                _only(clips, "segment_seconds"),
            )
        found = find_clips(folder)
        return io.NodeOutput(folder, f"{len(found)} clips in {folder}, first {next(iter(found))}")


class LongreelTrainTTT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelTrainTTT",
            display_name="Longreel Train TTT",
            category="Longreel/training",
            description="Trains the TTT layers of a model on clips with storyboards, stage by stage as the paper does "
            "(One-Minute Video Generation with Test-Time Training). Cancel keeps what was learned: queue "
            "again to go on.",
            search_aliases=["test-time training", "fine-tune", "train memory layers"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=("From Longreel Apply TTT: new layers, or trained ones to go on from. It is not changed."),
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                TTTDatasetSocket.Input("dataset", tooltip="From Longreel TTT Dataset."),
                io.String.Input(
                    "run",
                    default="first",
                    tooltip=(
                        "Name of the run's folder below output/longreel/ttt. A run that is there goes on where it "
                        "stands."
                    ),
                ),
                io.DynamicCombo.Input(
                    "stages",
                    tooltip=(
                        "one stage: of so many segments and steps; wire the result through Longreel Apply TTT into the "
                        "next. paper: its stages one after the other, from 3 to 63 seconds."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            ONE_STAGE,
                            [
                                io.Int.Input(
                                    "segments",
                                    default=3,
                                    min=1,
                                    max=1000,
                                    tooltip=(
                                        "Of every video that is shown; clips are cut into as many of them as they hold."
                                    ),
                                ),
                                io.Int.Input(
                                    "steps", default=1000, min=1, max=10_000_000, tooltip="Steps of the optimiser."
                                ),
                                io.Int.Input(
                                    "warmup_steps",
                                    default=50,
                                    min=0,
                                    max=10_000_000,
                                    tooltip=("The first steps, in which the learning rate rises."),
                                ),
                                io.Float.Input(
                                    "rate",
                                    default=1e-4,
                                    min=0.0,
                                    max=1.0,
                                    step=1e-6,
                                    round=False,
                                    tooltip=(
                                        "Highest learning rate of the TTT layers; 1e-4 in the paper's first stage."
                                    ),
                                ),
                                io.Float.Input(
                                    "end_rate",
                                    default=1e-5,
                                    min=0.0,
                                    max=1.0,
                                    step=1e-6,
                                    round=False,
                                    tooltip="Of the last step; of other weights than TTT's in all steps.",
                                ),
                                io.Combo.Input(
                                    "adapter",
                                    options=list(ADAPTERS),
                                    default=LAYERS,
                                    tooltip=(
                                        "What is trained. ttt: the TTT layers. qkvo: and the projections of attention. sft: "
                                        "and the rest of the network."
                                    ),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            PAPERS,
                            [
                                io.Float.Input(
                                    "steps_share",
                                    default=1.0,
                                    min=0.0001,
                                    max=10.0,
                                    step=0.0001,
                                    round=False,
                                    tooltip="Share of the paper's 12,250 steps; 0.01 for a hundredth.",
                                ),
                                io.Combo.Input(
                                    "last",
                                    options=LAST_STAGES,
                                    default=LAST_STAGES[-1],
                                    tooltip="The last stage; clips must have as many segments of 3 seconds.",
                                ),
                            ],
                        ),
                    ],
                ),
                io.Int.Input("batch", default=8, min=1, max=4096, tooltip="Videos for each step; 64 in the paper."),
                io.Int.Input(
                    "segment_latent_frames",
                    default=13,
                    min=2,
                    max=1000,
                    tooltip=("Latent frames of a segment, of which the last is shared with the next; 13 in the paper."),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    tooltip=("Of the order of the clips, the noise and its levels; 0 to 2^64-1."),
                ),
                io.Int.Input(
                    "held_out",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip=(
                        "Clips, the last by name, that are not trained on but measured: the red line of the curve."
                    ),
                ),
                io.Boolean.Input(
                    "plan_only",
                    default=False,
                    tooltip=("Encode, measure one step, say what the run will cost in the report, and train nothing."),
                ),
                io.String.Input(
                    "title", default="", optional=True, advanced=True, tooltip="Goes into the file of layers."
                ),
                io.Float.Input(
                    "text_dropout",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the videos that are shown without prompts; 0.1 in the paper.",
                ),
                io.Float.Input(
                    "ema",
                    default=0.999,
                    min=0.0,
                    max=0.99999,
                    step=0.00001,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the averaged weights that a step keeps; the average is what is "
                    "handed on. 0: the last step's weights.",
                ),
                io.Float.Input(
                    "clip_norm",
                    default=0.1,
                    min=0.0001,
                    max=1000.0,
                    step=0.0001,
                    optional=True,
                    advanced=True,
                    tooltip="Longer gradients are shortened to this; 0.1 in the paper.",
                ),
                io.Float.Input(
                    "start_gate",
                    default=0.1,
                    min=-3.0,
                    max=3.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="What the shut gates of new layers open to, before their tanh; 0.1 in the paper.",
                ),
                io.Combo.Input(
                    "compute",
                    options=list(COMPUTED_IN),
                    default=COMPUTED_IN[0],
                    optional=True,
                    advanced=True,
                    tooltip="In which the network computes; weights that are trained are kept in float32.",
                ),
                io.Int.Input(
                    "micro_batch",
                    default=1,
                    min=1,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip=("Videos that the network is shown at once. More is faster and takes more memory."),
                ),
                io.Boolean.Input(
                    "recompute_blocks",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip=("Keep the input of each block alone for the gradients, and compute its inside twice."),
                ),
                io.Int.Input(
                    "scan_chunks",
                    default=16,
                    min=0,
                    max=100_000,
                    optional=True,
                    advanced=True,
                    tooltip=("Chunks of a TTT scan between two kept states, the rest is computed twice; 0 keeps all."),
                ),
                io.Int.Input(
                    "checkpoint_every",
                    default=100,
                    min=1,
                    max=1_000_000,
                    optional=True,
                    advanced=True,
                    tooltip="Steps between two checkpoints on disk.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=250,
                    min=1,
                    max=1_000_000,
                    optional=True,
                    advanced=True,
                    tooltip="Steps between two looks at the clips that are held out.",
                ),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=0,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Stories that are sampled at every validation, with the prompts of the last clips; pictures in "
                        "the run's folder. 0: none."
                    ),
                ),
                io.Int.Input(
                    "sample_steps",
                    default=20,
                    min=1,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Steps of such a sample.",
                ),
                io.Float.Input(
                    "sample_cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="Guidance of such a sample; 1 for none.",
                ),
                io.Int.Input(
                    "text_tokens",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip=("Length that prompts are filled up to while they are kept; 0: that of the empty prompt."),
                ),
            ],
            outputs=[
                TTTSocket.Output(display_name="ttt", tooltip="For Longreel Apply TTT and Longreel Save TTT."),
                io.Image.Output(display_name="loss curve"),
                io.String.Output(display_name="report", tooltip="The plan, and what came of it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str | None = None, stages: dict | None = None) -> bool | str:
        # Core hands over inputs that open others even where they are not asked for.
        try:
            _checked_name("run", run or "from a wire")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        dataset,
        run,
        stages,
        batch,
        segment_latent_frames,
        seed,
        held_out,
        plan_only,
        title="",
        text_dropout=0.1,
        ema=0.999,
        clip_norm=0.1,
        start_gate=0.1,
        compute=COMPUTED_IN[0],
        micro_batch=1,
        recompute_blocks=True,
        scan_chunks=16,
        checkpoint_every=100,
        validate_every=250,
        samples=1,
        sample_steps=20,
        sample_cfg=5.0,
        text_tokens=0,
    ) -> io.NodeOutput:
        facts = facts_of(model)
        width, height = size_of(next(iter(find_clips(dataset).values()))[0], facts)
        student = TTTStudent(model, DTYPES[compute], start_gate)
        memory = {"batch": batch, "scan_chunks": scan_chunks, "checkpoint_blocks": recompute_blocks}
        config = Config(
            _output(RUNS) / _checked_name("run", run),
            Data(str(dataset), width, height, segment_latent_frames, held_out, str(_output(CACHE))),
            _stages(stages, student.config.kind, memory),
            Training(
                micro_batch,
                text_dropout,
                clip_norm=clip_norm,
                ema=ema,
                checkpoint_every=checkpoint_every,
                validate_every=validate_every,
            ),
            title,
            seed,
        )
        trainer = Trainer(student, TTTEncoder(model, clip, vae, text_tokens or None), config)
        progress = TrainingProgress(sum(stage.steps for stage in config.stages))
        trainer.prepare(lambda done, count: progress.say(f"encoding part {done + 1} of {count}"))
        progress.say("measuring one step")
        plan = trainer.plan().text()
        progress.say(plan)
        if plan_only:
            return io.NodeOutput(student.loaded(segment_latent_frames, title), _picture(trainer), plan)

        if samples:
            trainer.sample = _story_sampler(trainer, vae, samples, sample_steps, sample_cfg)

        def tell(now: Progress) -> None:
            text = f"stage {now.stage.name}, step {now.done} of {now.all}, loss {now.row.loss:.4f}"
            progress.step(now.done, text, trainer.curve)

        file = trainer.train(tell)
        return io.NodeOutput(load_ttt(file), _picture(trainer), _report(plan, trainer, file))


class LongreelSaveTTT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelSaveTTT",
            display_name="Longreel Save TTT",
            category="Longreel/training",
            description="Saves TTT layers into ComfyUI's models/ttt folder, from where Longreel Load TTT reads them. "
            "A file that is there is never overwritten.",
            search_aliases=["export ttt", "save memory layers"],
            is_output_node=True,
            inputs=[
                TTTSocket.Input("ttt", tooltip="From Longreel Train TTT or Longreel Load TTT."),
                io.String.Input(
                    "name", default="layers", tooltip=("Of the file; a number is added: layers_00001_.safetensors.")
                ),
                io.Combo.Input(
                    "stored_as",
                    options=list(DTYPES),
                    default="bfloat16",
                    tooltip=("float32: as trained, twice as large. bfloat16 and float16 round."),
                ),
                io.String.Input(
                    "title", default="", optional=True, advanced=True, tooltip="Written into the file; empty: as it is."
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="For Longreel Load TTT.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        try:
            _checked_name("name", name or "from a wire")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, ttt: LoadedTTT, name: str, stored_as: str, title: str = "") -> io.NodeOutput:
        folder = Path(folder_paths.get_folder_paths(TTT_FOLDER)[0])
        layers = {
            number: {key: value.to(DTYPES[stored_as]) for key, value in block.items()}
            for number, block in ttt.layers.items()
        }
        path = free_file(folder, _checked_name("name", name))
        save_ttt(path, replace(ttt, layers=layers, title=title or ttt.title))
        return io.NodeOutput(path.name, ui=ui.PreviewText(f"{path}\n{ttt.summary()}"))


def _only(clips: dict, name: str):
    """An input of a node whose inputs are lists, of which this one has one entry."""
    value = clips.get(name)
    return value[0] if isinstance(value, list) else value


def _output(below: str) -> Path:
    return Path(folder_paths.get_output_directory()) / below


def _checked_name(what: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} is {name!r}, {len(name)} characters that name no folder or file; use 1 to 100 "
            f"letters, digits, spaces, dots, dashes and underscores"
        )
    return name


def _spoken(video, text: str) -> Spoken:
    parts = video.get_components()
    return Spoken(parts.images, float(parts.frame_rate), text)


def _stages(chosen: dict, kind: str, memory: dict) -> tuple[Stage, ...]:
    if chosen["stages"] == PAPERS:
        return scaled(PAPER.get(kind, PAPER["mlp"]), chosen["steps_share"], chosen["last"], **memory)
    segments = chosen["segments"]
    return (
        Stage(
            f"{segments} segments",
            segments,
            chosen["steps"],
            min(chosen["warmup_steps"], chosen["steps"]),
            ttt_rate=chosen["rate"],
            ttt_end_rate=chosen["end_rate"],
            others_rate=chosen["end_rate"],
            others_end_rate=chosen["end_rate"],
            adapter=chosen["adapter"],
            **memory,
        ),
    )


def _story_sampler(trainer: Trainer, vae, count: int, steps: int, cfg: float) -> StorySampler:
    """Of the last clips' prompts, those that are held out first; stories as long as those of the last stage."""
    segments = trainer.config.stages[-1].segments
    parts = [*trainer.parts[-1], *trainer.held_out[-1]][-count:]
    return StorySampler(
        trainer.student,
        vae,
        [trainer.cache.conditioning(part.prompts) for part in parts],
        trainer.cache.conditioning(("",) * segments),
        trainer.geometry.latent_shape(segments),
        trainer.geometry.windows(segments),
        steps,
        cfg,
        trainer.config.seed,
    )


def _picture(trainer: Trainer) -> torch.Tensor:
    """[1, H, W, 3] in 0..1"""
    return torch.from_numpy(np.array(trainer.curve())).float()[None] / 255


def _report(plan: str, trainer: Trainer, file: Path) -> str:
    rows, held_out = trainer.position.rows, trainer.position.held_out
    lines = [plan, "", f"{len(rows)} steps, loss of the first {rows[0].loss:.4f}, of the last {rows[-1].loss:.4f}"]
    if held_out:
        lines.append(
            f"held-out clips: {held_out[0][1]:.4f} after {held_out[0][0]} steps, {held_out[-1][1]:.4f} after "
            f"{held_out[-1][0]}"
        )
    lines.append(f"layers: {file}")
    pages = sorted((file.parent / SAMPLES).glob("*.png"))
    lines += [f"samples: {len(pages)} pages, the last one {pages[-1]}"] if pages else []
    others = file.with_name(OTHERS_FILE)
    if others.is_file():
        lines.append(f"the other weights that were trained: {others}, for core's Load LoRA (Model)")
    return "\n".join(lines)
