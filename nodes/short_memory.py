"""Longreel Short Memory: the next chunk of a rollout knows what has just been made."""

from comfy_api.latest import io

from ..engine.plan.spans import check_layers, parse_layers
from ..hosts.families import block_count
from ..hosts.memory import cam, short_memory
from ..hosts.memory.short_memory import (
    AT_ZERO,
    CLEAN,
    KEYS_AND_VALUES,
    KNOWN_FRAMES,
    NOISED,
    KeysAndValues,
    KnownFrames,
)
from .choices import check_choice
from .keeping import keep_inputs, keep_of
from .sockets import MemorySocket
from .validation import check_values

TRAINED = "trained"


class LongreelShortMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}
        decay = {**strength, "default": 0.0}
        return io.Schema(
            node_id="LongreelShortMemory",
            display_name="Longreel Short Memory",
            category="Longreel/memory",
            description="How a chunk of a rollout continues from what has just been made. Several of these nodes, "
            "each of another method, may follow each other. Works with Longreel Sampler in mode rollout.",
            search_aliases=[
                "streamingt2v",
                "short-term memory",
                "endless video",
                "continue video",
                "kv cache",
                "extend video",
                "infinite video",
                "last frames",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.DynamicCombo.Input(
                    "method",
                    tooltip=(
                        "known frames: the last frames begin the next chunk and are held. keys and values: frames in "
                        "front of the chunk are read in self-attention, at their true time. trained: CAM of "
                        "StreamingT2V, which was trained for this model."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            KNOWN_FRAMES,
                            [
                                io.Combo.Input(
                                    "shown",
                                    options=[CLEAN, AT_ZERO, NOISED],
                                    default=CLEAN,
                                    tooltip=(
                                        "How the network sees them. clean: without noise, in every step. clean at time "
                                        "0: and told so, where it takes a time for each frame (Wan). noised: as noisy "
                                        "as the rest of the step, as without this node."
                                    ),
                                ),
                                io.Int.Input(
                                    "frames",
                                    default=0,
                                    min=0,
                                    max=1024,
                                    tooltip=(
                                        "Latent frames that begin each chunk and are finished before, 1 or more; 0 "
                                        "takes the plan's overlap."
                                    ),
                                ),
                                io.Float.Input(
                                    "strength",
                                    **strength,
                                    tooltip=(
                                        "How firmly they are held at every step, 0 to 1: 1 as they are, 0 drawn anew."
                                    ),
                                ),
                                io.Float.Input(
                                    "decay",
                                    **decay,
                                    tooltip=("What frames of each chunk further back lose of the strength, 0 to 1."),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            KEYS_AND_VALUES,
                            [
                                io.Int.Input(
                                    "frames",
                                    default=2,
                                    min=1,
                                    max=1024,
                                    tooltip=("Latent frames in front of the chunk's window that it reads, 1 or more."),
                                ),
                                io.Float.Input(
                                    "strength",
                                    **strength,
                                    tooltip=(
                                        "How much a remembered key counts beside the chunk's own, 0 to 1; 0 leaves the "
                                        "memory out."
                                    ),
                                ),
                                io.Float.Input(
                                    "decay",
                                    **decay,
                                    tooltip=("What frames of each chunk further back lose of the strength, 0 to 1."),
                                ),
                                io.String.Input(
                                    "layers",
                                    default="all",
                                    tooltip=('Blocks of the network that read, from 0: "all", "last 1/2", "0, 3-5".'),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            TRAINED,
                            [
                                MemorySocket.Input("memory", tooltip="A CAM from Longreel Load Memory."),
                                io.Float.Input(
                                    "strength",
                                    **strength,
                                    tooltip=(
                                        "How much of what it says is let through, 0 to 1: 1 as trained, 0 nothing."
                                    ),
                                ),
                            ],
                        ),
                    ],
                ),
                *keep_inputs("with that method, the remembered"),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, **inputs) -> bool:
        check_values(cls, inputs)
        check_layers(inputs["method"].get("layers") or "all")
        return True

    @classmethod
    def execute(cls, model, method, **keep):
        chosen = check_choice("method", method, (KNOWN_FRAMES, KEYS_AND_VALUES, TRAINED))
        if chosen["method"] == TRAINED:
            return io.NodeOutput(cam.attach(model, chosen["memory"], chosen["strength"]))
        frames, strength, decay = (chosen[name] for name in ("frames", "strength", "decay"))
        if chosen["method"] == KNOWN_FRAMES:
            feature = KnownFrames(chosen["shown"], frames, strength, decay)
        else:
            kept, layers = keep_of(**keep), parse_layers(chosen["layers"], block_count(model))
            feature = KeysAndValues(frames, strength, decay, layers, place=kept.place, form=kept.form)
        return io.NodeOutput(short_memory.attach(model, feature))
