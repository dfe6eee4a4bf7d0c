"""Load TTT layers, attach them to a model, and sample a whole timeline with them."""

import asyncio

import folder_paths
from comfy_api.latest import io

from ..engine.plan.spans import check_layers, parse_layers
from ..engine.ttt.files import LoadedTTT, load_ttt
from ..engine.ttt.layer import LACT, LINEAR, MLP
from ..hosts.demo_model import WEIGHTS
from ..hosts.families import block_count
from ..hosts.sampling.settings import Sampling
from ..hosts.sampling.whole import sample_ttt
from ..hosts.ttt import apply as ttt
from .folders import add_model_folder, fingerprint, model_file
from .sockets import TimelineSocket, TTTSocket

FOLDER = "ttt"  # below ComfyUI's models
NEW, TRAINED = "new", "trained"
MOST_LEAD_FRAMES = 8
BUNDLED = WEIGHTS / FOLDER  # the demo model's own layers

add_model_folder(FOLDER, BUNDLED)


class LongreelLoadTTT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLoadTTT",
            display_name="Longreel Load TTT",
            category="Longreel/ttt",
            description="Trained TTT layers from a file in ComfyUI's models/ttt folder, or those of the demo model.",
            search_aliases=["test-time training", "ttt-video", "one-minute video", "memory layers"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip=(
                        "A .safetensors file of models/ttt: saved by Longreel, or ttt-video's weights under its own "
                        "names. A changed file is read again. Those named shapeworld come with the pack, for its demo "
                        "model."
                    ),
                ),
                io.Int.Input(
                    "chunk",
                    default=0,
                    min=0,
                    max=4096,
                    advanced=True,
                    tooltip=(
                        "Tokens that the layers learn from at once, 1 to 4096, for a file that does not say; 0: as the "
                        "file says, or as published (64, linear layers 16)."
                    ),
                ),
            ],
            outputs=[
                TTTSocket.Output(display_name="ttt"),
                io.String.Output(
                    display_name="summary", tooltip="Which model the layers belong to, and how large they are."
                ),
            ],
        )

    @classmethod
    async def validate_inputs(cls, file: str | None = None, chunk: int | None = None) -> bool:
        if file is not None:  # else it comes through a wire
            await asyncio.to_thread(lambda: _load(file, chunk or 0, shapes_only=True))
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, chunk: int | None = None) -> tuple[int, int] | float:
        return fingerprint(None if file is None else model_file(FOLDER, file))

    @classmethod
    def execute(cls, file: str, chunk: int) -> io.NodeOutput:
        loaded = _load(file, chunk)
        return io.NodeOutput(loaded, loaded.summary())


class LongreelApplyTTT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelApplyTTT",
            display_name="Longreel Apply TTT",
            category="Longreel/ttt",
            description="Puts TTT layers into a model's blocks: small networks that learn the video while it is made, "
            "so that its end remembers its beginning (One-Minute Video Generation with Test-Time "
            "Training). Sample with Longreel TTT Sampler.",
            search_aliases=["test-time training", "ttt-video", "one-minute video", "memory layers"],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.DynamicCombo.Input(
                    "weights",
                    tooltip=(
                        "trained: layers that were trained for this model. new: untrained ones, which change nothing; "
                        "for training, and for trying out what a length costs."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            TRAINED,
                            [
                                TTTSocket.Input("ttt", tooltip="From Longreel Load TTT."),
                                io.Float.Input(
                                    "strength",
                                    default=1.0,
                                    min=0.0,
                                    max=1.0,
                                    step=0.05,
                                    tooltip=(
                                        "How much of what the layers say is let through: 1 as trained, 0 nothing."
                                    ),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            NEW,
                            [
                                io.Combo.Input(
                                    "kind",
                                    options=[MLP, LINEAR, LACT],
                                    default=MLP,
                                    tooltip=(
                                        "mlp: the paper's choice, remembers more. linear: smaller and faster. lact: "
                                        "large networks that learn from 3 latent frames at once; fast on any card, "
                                        "also in training."
                                    ),
                                )
                            ],
                        ),
                    ],
                ),
                io.String.Input(
                    "layers",
                    default="all",
                    advanced=True,
                    tooltip=(
                        'Blocks of the network that get their layers, from 0: "all", "last 1/2", "25-29", "0, 3, 5".'
                    ),
                ),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, layers: str | None = None, weights: dict | None = None) -> bool:
        # Core hands over inputs that open others even where they are not asked for.
        check_layers("all" if layers is None else layers)
        return True

    @classmethod
    def execute(cls, model, weights, layers) -> io.NodeOutput:
        blocks = parse_layers(layers, block_count(model))
        if weights["weights"] == NEW:
            return io.NodeOutput(ttt.apply(model, None, kind=weights["kind"], blocks=blocks))
        return io.NodeOutput(ttt.apply(model, weights["ttt"], weights["strength"], blocks=blocks))


class LongreelTTTSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelTTTSampler",
            display_name="Longreel TTT Sampler",
            category="Longreel/ttt",
            description="Samples a whole storyboard at once, as the TTT paper does: every segment follows its own "
            "prompt and looks at itself, and the TTT layers join all of them.",
            search_aliases=[
                "test-time training",
                "ttt-video",
                "one-minute video",
                "long video sampler",
                "storyboard",
                "infinite video",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip=("From Longreel Apply TTT. Without it the segments know nothing of each other.")
                ),
                TimelineSocket.Input(
                    "timeline", tooltip=("From Longreel Plan; the paper's segments overlap by one latent frame.")
                ),
                io.Conditioning.Input("positive", tooltip="From Longreel Encode."),
                io.Conditioning.Input(
                    "negative", tooltip="From Longreel Encode; shapes the result when cfg is above 1."
                ),
                io.Latent.Input("latent", tooltip="From Longreel Plan, or a latent of the same size to start from."),
                io.Sampler.Input("sampler", tooltip="Any core sampler; Longreel Alpha Space Sampler for CogVideoX."),
                io.Sigmas.Input("sigmas", tooltip="From Basic Scheduler or any other."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip=("Noise of the shots that have no seed of their own; 0 to 2^64-1."),
                ),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance scale; 1 leaves the negative prompts out and halves the time.",
                ),
                io.Boolean.Input(
                    "add_noise",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Off when the latent comes noisy from an earlier sampler: the low-noise expert of Wan 2.2 14B."
                    ),
                ),
                io.Int.Input(
                    "lead_frames",
                    default=1,
                    min=0,
                    max=MOST_LEAD_FRAMES,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Latent frames in front of each segment that it looks at too, 0 to 8, so that it goes on where "
                        "the one before it stops. 0: as published."
                    ),
                ),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(
        cls, model, timeline, positive, negative, latent, sampler, sigmas, seed, cfg, add_noise=True, lead_frames=1
    ):
        sampling = Sampling(
            positive=positive,
            negative=negative,
            sampler=sampler,
            sigmas=sigmas,
            cfg=cfg,
            seed=seed,
            add_noise=add_noise,
        )
        return io.NodeOutput(sample_ttt(model, timeline, latent, sampling, lead_frames))


def _load(file: str, chunk: int, shapes_only: bool = False) -> LoadedTTT:
    return load_ttt(model_file(FOLDER, file), chunk or None, shapes_only)
