"""Longreel KV Share: later shots look at what an earlier one showed."""

from comfy_api.latest import io

from ..engine.attention.kv_share import ALIGNED, BEFORE, CHOSEN, EXTEND, FIRST, PREVIOUS, REPLACE, TRUE
from ..engine.plan.needs import AUTO, FULL
from ..engine.plan.spans import check_layers, check_percents, parse_layers, parse_shots, parse_words
from ..hosts.attention import patching
from ..hosts.families import block_count
from ..hosts.features.kv_share import FAST, PAPER, KVShare, Mask
from .choices import check_choice
from .keeping import keep_inputs, keep_of
from .presets import CUSTOM, KV_SHARE, preset_input, with_preset
from .validation import check_values


class LongreelKVShare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelKVShare",
            display_name="Longreel KV Share",
            category="Longreel/memory",
            description="In some steps and layers the segments of later shots read the keys and values of an earlier "
            "one, so that its subject appears again, without training (DiTCtrl). Works between the segments "
            "of Longreel Latent Blend or Longreel Sampler.",
            search_aliases=[
                "ditctrl",
                "consistent character",
                "kv sharing",
                "shared attention",
                "masactrl",
                "identity",
                "reference",
                "character consistency",
                "same subject",
                "subject consistency",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.Combo.Input(
                    "mode",
                    options=[FAST, PAPER],
                    default=FAST,
                    advanced=True,
                    tooltip=(
                        "fast: every segment is evaluated once per step. paper: a segment that is read from and reads "
                        "itself is evaluated twice and both predictions are blended, as DiTCtrl's code does."
                    ),
                ),
                io.DynamicCombo.Input(
                    "source",
                    extra_dict={"advanced": True},
                    tooltip=(
                        "Whose keys and values are read. previous: those of the segment before. first: of shot 1. "
                        "chosen: of one shot. Shots before the source are made by themselves."
                    ),
                    options=[
                        io.DynamicCombo.Option(PREVIOUS, []),
                        io.DynamicCombo.Option(FIRST, []),
                        io.DynamicCombo.Option(
                            CHOSEN,
                            [
                                io.Int.Input(
                                    "source_shot",
                                    default=1,
                                    min=1,
                                    max=10_000,
                                    advanced=True,
                                    tooltip=("The shot, counted from 1, that the later ones read from."),
                                )
                            ],
                        ),
                    ],
                ),
                io.String.Input(
                    "shots",
                    default="",
                    advanced=True,
                    tooltip=('Which shots read, counted from 1, like "2, 4-6"; empty: all after the source.'),
                ),
                io.Boolean.Input(
                    "across_cuts",
                    default=True,
                    advanced=True,
                    tooltip=("Also read across the storyboard's cuts; off: within a take alone."),
                ),
                io.Combo.Input(
                    "join",
                    options=[REPLACE, EXTEND],
                    default=REPLACE,
                    advanced=True,
                    tooltip=(
                        "replace: the source's video instead of the segment's own (DiTCtrl). extend: beside its own, "
                        "which leaves the segment more freedom to move, and costs attention time."
                    ),
                ),
                io.Combo.Input(
                    "placement",
                    options=[ALIGNED, BEFORE, TRUE],
                    default=ALIGNED,
                    advanced=True,
                    tooltip=(
                        "Where in time the source stands for the reader. aligned: frame on frame (DiTCtrl). before: as "
                        "if it ended just before the segment. true: where it really is."
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
                        "1: attention with the source. 0: without it, as if this node were not there. Between: mixed, "
                        "which costs both."
                    ),
                ),
                io.Boolean.Input(
                    "share_text",
                    default=True,
                    advanced=True,
                    tooltip=(
                        "Also read the source's prompt in these layers (DiTCtrl); off keeps the segment's own prompt, "
                        "which it then follows more closely."
                    ),
                ),
                io.String.Input(
                    "layers",
                    default="last 1/6",
                    advanced=True,
                    tooltip=(
                        'Blocks of the network, from 0: "last 1/6" (DiTCtrl\'s last five of 30), "25-29", "0, 3, 5", '
                        '"all".'
                    ),
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.04,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip=("Part of the schedule at which sharing begins, 0 to 1; DiTCtrl's step 2 of 50 is 0.04."),
                ),
                io.Float.Input(
                    "end_percent",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip=("Part of the schedule at which sharing ends, 0 to 1; DiTCtrl's step 25 of 50 is 0.5."),
                ),
                io.DynamicCombo.Input(
                    "mask",
                    tooltip=(
                        "words: the subject reads the source's subject and the background its background; both are "
                        "found by where the words are attended to. off: everything reads everything."
                    ),
                    options=[
                        io.DynamicCombo.Option("off", []),
                        io.DynamicCombo.Option(
                            "words",
                            [
                                io.String.Input(
                                    "words",
                                    default="",
                                    tooltip=(
                                        "Words of the prompts that name the subject, with commas between; a shot's own "
                                        "focus words in the storyboard go before them."
                                    ),
                                ),
                                io.Float.Input(
                                    "threshold",
                                    default=0.3,
                                    min=0.0,
                                    max=1.0,
                                    step=0.01,
                                    tooltip=(
                                        "From which attention on, between the frame's least (0) and most (1), a place "
                                        "belongs to the subject; Longreel Focus Preview shows it."
                                    ),
                                ),
                            ],
                        ),
                    ],
                ),
                *keep_inputs("the source's"),
                io.Int.Input(
                    "keep_every",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "1: every frame of the source is kept. n: each n-th alone, in 1/n of the memory; readers see "
                        "less of how it moves."
                    ),
                ),
                preset_input(
                    KV_SHARE,
                    "Sets mode, source, join, placement, strength, share_text, layers and percents. paper: DiTCtrl's. "
                    "same subject in every shot: all shots read shot 1 beside themselves, measured best on the demo "
                    "model.",
                ),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, **inputs) -> bool:
        check_values(cls, inputs)
        inputs = with_preset(KV_SHARE, inputs.get("preset") or CUSTOM, inputs)
        check_layers(inputs.get("layers") or "all")
        parse_shots(inputs.get("shots") or "")
        if None not in (given := (inputs.get("start_percent"), inputs.get("end_percent"))):
            check_percents(*given)
        return True

    @classmethod
    def execute(
        cls, model, *, shots, across_cuts, mask, kept_in=AUTO, kept_as=FULL, keep_every=1, preset=CUSTOM, **settings
    ):
        settings = with_preset(KV_SHARE, preset, settings)
        source = check_choice("source", settings.pop("source"), (PREVIOUS, FIRST, CHOSEN))
        mask = check_choice("mask", mask, ("off", "words"))
        feature = KVShare(
            source=source["source"],
            source_shot=source.get("source_shot", 1),
            shots=parse_shots(shots),
            across_cuts=across_cuts,
            layers=parse_layers(settings.pop("layers"), block_count(model)),
            mask=Mask(parse_words(mask["words"]), mask["threshold"]) if mask["mask"] == "words" else None,
            keep=keep_of(kept_in, kept_as, keep_every),
            **settings,
        )
        return io.NodeOutput(patching.attach(model, feature))
