"""Longreel Long Memory: every chunk of a rollout knows how the video began."""

from comfy_api.latest import io

from ..engine.plan.needs import AUTO, FULL
from ..engine.plan.spans import check_layers, parse_layers
from ..hosts.attention import patching
from ..hosts.families import block_count
from ..hosts.memory import apm as trained_apm
from ..hosts.memory.long_memory import BEFORE, TAKE, TRUE, VIDEO, LongMemory
from .keeping import keep_inputs, keep_of
from .presets import CUSTOM, LONG_MEMORY, preset_input, with_preset
from .sockets import MemorySocket


class LongreelLongMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLongMemory",
            display_name="Longreel Long Memory",
            category="Longreel/memory",
            description="Each chunk of a rollout reads the first frame of the video, or of its take, in "
            "self-attention, and its colours are held to those of the first chunk; neither needs training. A trained "
            "APM may be wired in beside. Works with Longreel Sampler in mode rollout.",
            search_aliases=[
                "streamingt2v",
                "long-term memory",
                "anchor frame",
                "attention sink",
                "adain",
                "color drift",
                "color match",
                "colour match",
                "colour drift",
                "burn-in",
                "reference frame",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.Combo.Input(
                    "anchor",
                    options=[VIDEO, TAKE],
                    default=VIDEO,
                    advanced=True,
                    tooltip=(
                        "What is remembered. video: the first latent frame of all, across cuts too. take: the first "
                        "after each cut, so that every scene has an anchor of its own."
                    ),
                ),
                io.Int.Input(
                    "frames",
                    default=2,
                    min=1,
                    max=1024,
                    advanced=True,
                    tooltip=(
                        "How many latent frames from there on are remembered, 1 or more, at most those of the first "
                        "chunk. More hold on more firmly, and cost more."
                    ),
                ),
                io.Combo.Input(
                    "placement",
                    options=[BEFORE, TRUE],
                    default=BEFORE,
                    advanced=True,
                    tooltip=(
                        "Where in time the anchor stands for the chunk. before: just in front of it. true: as far back "
                        "as it is."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip=(
                        "How much an anchor's key counts beside the chunk's own, 0 to 1; 0 leaves the anchor out."
                    ),
                ),
                io.String.Input(
                    "layers",
                    default="all",
                    advanced=True,
                    tooltip=('Blocks of the network that read the anchor, from 0: "all", "last 1/2", "0, 3-5".'),
                ),
                io.Float.Input(
                    "statistics",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip=(
                        "How far each finished chunk's latent mean and contrast are pulled to those of the anchor's "
                        "chunk, per channel, against colour drift: 0 not at all, 1 all the way."
                    ),
                ),
                MemorySocket.Input(
                    "apm",
                    optional=True,
                    tooltip=(
                        "A trained APM of StreamingT2V from Longreel Load Memory: the anchor's first frame is also "
                        "mixed into the text."
                    ),
                ),
                io.Float.Input(
                    "apm_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="How much of what the APM says is let through, 0 to 1: 1 as trained, 0 nothing.",
                ),
                *keep_inputs("the anchor's"),
                preset_input(
                    LONG_MEMORY,
                    "Sets anchor, frames, placement, strength, layers and statistics. same scene throughout: every "
                    "chunk holds on to how the video began. new scene after each cut: to how its take began. colours "
                    "only: mean and contrast alone, nothing is read.",
                ),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, layers: str | None = None, preset: str = CUSTOM) -> bool:
        check_layers(with_preset(LONG_MEMORY, preset, {"layers": layers})["layers"] or "all")
        return True

    @classmethod
    def execute(cls, model, *, apm=None, apm_strength=1.0, kept_in=AUTO, kept_as=FULL, preset=CUSTOM, **settings):
        settings, kept = with_preset(LONG_MEMORY, preset, settings), keep_of(kept_in, kept_as)
        settings["layers"] = parse_layers(settings["layers"], block_count(model))
        model = patching.attach(model, LongMemory(**settings, place=kept.place, form=kept.form))
        if apm is not None:
            model = trained_apm.attach(model, apm, settings["anchor"], apm_strength)
        return io.NodeOutput(model)
