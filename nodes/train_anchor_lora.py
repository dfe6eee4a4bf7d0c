"""Longreel Train Anchor LoRA: teach a model, from clips in a folder, to go on from a clean frame."""

import shutil
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..engine.lora.low_rank import MOST_RANK
from ..engine.runs.name import check_run_name
from ..hosts.anchor.student import DTYPES, AnchorStudent, StepBar
from ..hosts.training.encoder import TTTEncoder
from ..training.anchor_config import AnchorConfig, LoRASettings
from ..training.anchor_student import FolderClips
from ..training.config import Data
from .folders import NUMBERED, clips_folder, free_file, output_folder
from .pictures import image_of
from .validation import verdict

RUNS, CACHE = "longreel/anchor_lora", "longreel/cache"  # below ComfyUI's output folder


class LongreelTrainAnchorLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelTrainAnchorLoRA",
            display_name="Longreel Train Anchor LoRA",
            category="Longreel/training",
            description="Trains a LoRA that makes a model obey an anchor frame: in every clip one latent frame is "
            "shown clean at time 0, the others as noise (Anchored Video Generation). For Wan 2.1, Wan 2.2 14B (each "
            "expert by itself), CogVideoX and HunyuanVideo. Cancel keeps what was learned: queue again to go on.",
            search_aliases=["fvg", "avg", "factorized video", "fine-tune", "lora training"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="From Load Diffusion Model. It is not changed, and LoRAs on it are not seen."
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Combo.Input(
                    "folder",
                    options=folder_paths.get_input_subfolders(),
                    tooltip=(
                        "A folder below ComfyUI's input: name.mp4 (or a folder of pictures, or a latent) beside "
                        "name.json, a storyboard with the clip's prompt."
                    ),
                ),
                io.String.Input(
                    "run",
                    default="first",
                    tooltip=(
                        "Name of the run's folder below output/longreel/anchor_lora. A run that is there goes on where "
                        "it stands."
                    ),
                ),
                io.Int.Input("width", default=832, min=16, max=16384, step=16, tooltip="Of every clip, in pixels."),
                io.Int.Input("height", default=480, min=16, max=16384, step=16, tooltip="Of every clip, in pixels."),
                io.Int.Input(
                    "latent_frames",
                    default=21,
                    min=2,
                    max=1000,
                    tooltip=("Of every clip; 21 are 81 pixel frames of Wan. One of them becomes the anchor."),
                ),
                io.Int.Input(
                    "rank", default=MOST_RANK, min=1, max=MOST_RANK, tooltip="Of the LoRA, 1 to 256; 256 in the paper."
                ),
                io.String.Input(
                    "targets",
                    default="blocks.*",
                    tooltip=(
                        "Which linear layers get the LoRA: names separated by commas, * for any text, like "
                        '"blocks.*.self_attn.*, *ffn*".'
                    ),
                ),
                io.Int.Input(
                    "steps", default=6000, min=1, max=10_000_000, tooltip="Steps of the optimiser; 6000 in the paper."
                ),
                io.Int.Input("batch", default=8, min=1, max=4096, tooltip="Clips for each step."),
                io.Float.Input(
                    "rate",
                    default=1e-4,
                    min=0.0,
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="Highest learning rate; it falls to a tenth as a cosine.",
                ),
                io.Float.Input(
                    "noise_from",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    tooltip=("Lowest noise that is trained, 0 (clean) to 1; 0.875 for Wan 2.2's high-noise expert."),
                ),
                io.Float.Input(
                    "noise_to",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    tooltip=("Highest noise that is trained, 0 to 1; 0.875 for Wan 2.2's low-noise expert."),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    tooltip=("Of the order of the clips, the anchors, the noise and its levels; 0 to 2^64-1."),
                ),
                io.Float.Input(
                    "first_share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Share of the clips whose anchor is their first frame; that of the others is drawn from all "
                        "frames."
                    ),
                ),
                io.Int.Input(
                    "held_out",
                    default=0,
                    min=0,
                    max=100_000,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Clips, the last by name, that are not trained on but measured: the red line of the curve."
                    ),
                ),
                io.Float.Input(
                    "alpha",
                    default=0.0,
                    min=0.0,
                    max=4096.0,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip=("The LoRA counts alpha / rank; 0: alpha is the rank."),
                ),
                io.Float.Input(
                    "text_dropout",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the clips that are shown without prompt.",
                ),
                io.Float.Input(
                    "ema",
                    default=0.99,
                    min=0.0,
                    max=0.99999,
                    step=0.00001,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the averaged weights that a step keeps; the average is saved. 0: the last "
                    "step's weights.",
                ),
                io.Int.Input(
                    "micro_batch",
                    default=1,
                    min=1,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip=("Clips that the network is shown at once. More is faster and takes more memory."),
                ),
                io.Combo.Input(
                    "compute",
                    options=list(DTYPES),
                    default="bfloat16",
                    optional=True,
                    advanced=True,
                    tooltip=("In which the network computes; the LoRA is kept in float32."),
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="file", tooltip="The finished LoRA in models/loras, for Longreel Load Anchor LoRA."
                ),
                io.Image.Output(display_name="loss curve"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str | None = None) -> bool | str:
        return verdict(lambda: check_run_name("from a wire" if run is None else run, NUMBERED))

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        folder,
        run,
        width,
        height,
        latent_frames,
        rank,
        targets,
        steps,
        batch,
        rate,
        noise_from,
        noise_to,
        seed,
        first_share=0.5,
        held_out=0,
        alpha=0.0,
        text_dropout=0.1,
        ema=0.99,
        micro_batch=1,
        compute="bfloat16",
    ) -> io.NodeOutput:
        from ..training.anchor_trainer import AnchorTrainer  # a tenth of what the pack costs ComfyUI's start

        data = Data(str(clips_folder(folder)), width, height, latent_frames, held_out, str(output_folder(CACHE)))
        settings = LoRASettings(
            rank,
            alpha,
            targets,
            steps,
            min(100, steps // 10),
            rate,
            rate / 10,
            batch,
            micro_batch,
            first_share,
            text_dropout=text_dropout,
            noise_from=noise_from,
            noise_to=noise_to,
            ema=ema,
        )
        student = AnchorStudent(model, DTYPES[compute])
        clips = FolderClips(data, TTTEncoder(model, clip, vae), student.facts)
        clips.prepare(lambda done, count: StepBar.check())
        trainer = AnchorTrainer(
            student, clips, AnchorConfig(output_folder(RUNS) / check_run_name(run, NUMBERED), settings, data, run, seed)
        )
        bar = StepBar(steps)
        made = trainer.train(lambda done, row: bar.at(done))
        file = free_file(Path(folder_paths.get_folder_paths("loras")[0]), run)
        shutil.copyfile(made, file)
        return io.NodeOutput(file.name, image_of(trainer.curve()), f"{trainer.report()}\nLoRA: {file}")
