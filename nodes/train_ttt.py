"""Longreel Train TTT: trains the TTT layers of a model on clips with storyboards."""

from typing import Any

from comfy_api.latest import io

from ..engine.ttt.files import load_ttt
from ..engine.ttt.layer import MLP
from ..hosts.families import facts_of
from ..hosts.training.encoder import TTTEncoder
from ..hosts.training.progress import TrainingProgress
from ..hosts.ttt.samples import sampler_of_clips
from ..hosts.ttt.student import TTTStudent
from ..training.config import Config, Data, Training
from ..training.dataset import find_clips, size_of
from ..training.stage_clips import StageClips
from ..training.stages import ADAPTERS, LAYERS, PAPER, Stage, one_stage, scaled
from .folders import check_name, output_folder
from .pictures import image_of
from .save_ttt import DTYPES
from .sockets import TTTDatasetSocket, TTTSocket

RUNS, CACHE = "longreel/ttt", "longreel/cache"  # below ComfyUI's output folder
ONE_STAGE, PAPERS = "one stage", "paper"
COMPUTED_IN = ("bfloat16", "float32")
LAST_STAGES = [stage.name for stage in PAPER[MLP]]
STAGES = io.DynamicCombo.Input(
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
                    tooltip=("Of every video that is shown; clips are cut into as many of them as they hold."),
                ),
                io.Int.Input("steps", default=1000, min=1, max=10_000_000, tooltip="Steps of the optimiser."),
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
                    tooltip=("Highest learning rate of the TTT layers; 1e-4 in the paper's first stage."),
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
)


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
                STAGES,
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
    def validate_inputs(cls, run: str | None = None, stages: dict[str, Any] | None = None) -> bool:
        # Core hands over inputs that open others even where they are not asked for.
        check_name("run", "from a wire" if run is None else run)
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
        from ..training.trainer import Trainer  # a tenth of what the pack costs ComfyUI's start, and few train

        facts = facts_of(model)
        width, height = size_of(next(iter(find_clips(dataset).values()))[0], facts)
        student = TTTStudent(model, DTYPES[compute], start_gate)
        config = Config(
            output_folder(RUNS) / check_name("run", run),
            Data(str(dataset), width, height, segment_latent_frames, held_out, str(output_folder(CACHE))),
            _stages(
                stages, student.config.kind, batch=batch, scan_chunks=scan_chunks, checkpoint_blocks=recompute_blocks
            ),
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
        clips = StageClips(config, TTTEncoder(model, clip, vae, text_tokens or None), facts)
        sample = sampler_of_clips(student, vae, clips, count=samples, steps=sample_steps, cfg=sample_cfg, seed=seed)
        trainer = Trainer(student, clips, config, sample=sample if samples else None)
        progress = TrainingProgress(trainer.steps)
        trainer.prepare(lambda done, count: progress.say(f"encoding part {done + 1} of {count}"))
        progress.say("measuring one step")
        plan = trainer.plan().text()
        progress.say(plan)
        if plan_only:
            return io.NodeOutput(student.loaded(segment_latent_frames, title), image_of(trainer.curve()), plan)
        layers = trainer.train(lambda now: progress.step(now.done, str(now), trainer.curve))
        return io.NodeOutput(load_ttt(layers), image_of(trainer.curve()), f"{plan}\n\n{trainer.report()}")


def _stages(chosen: dict[str, Any], kind: str, **memory: Any) -> tuple[Stage, ...]:
    """The stages that were chosen, for layers of a kind. memory: fields of every stage (training/stages.py)."""
    if chosen["stages"] == PAPERS:
        return scaled(PAPER.get(kind, PAPER[MLP]), chosen["steps_share"], chosen["last"], **memory)
    settings = {name: chosen[name] for name in ("segments", "steps", "warmup_steps", "rate", "end_rate", "adapter")}
    return (one_stage(**settings, **memory),)
