"""Longreel Prompt Edit: words count more or less, or are swapped while the layout stays."""

from comfy_api.latest import io

from ..engine.attention.prompt_edit import AFTER_SOFTMAX, FORMS, check_weight
from ..engine.plan.spans import check_layers, check_percents, parse_layers, parse_words
from ..hosts.families import block_count
from ..hosts.features import prompt_edit
from ..hosts.features.prompt_edit import Layout, PromptEdit, Reweight
from .choices import check_choice
from .keeping import keep_inputs, keep_of
from .validation import check_values

REWEIGHT, SWAP = "reweight", "swap"
NO_ORIGINAL = (
    "a swap copies the layout of an original, and none is wired; wire the positive output of a Longreel Encode of the "
    "original prompt into original"
)


class LongreelPromptEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelPromptEdit",
            display_name="Longreel Prompt Edit",
            category="Longreel/sampling",
            description="Edits a video by its prompt: makes words count more or less, or keeps the layout of an "
            "original video under another prompt, from the same noise (DiTCtrl). The edited prompt is the "
            "positive one of the sampler.",
            search_aliases=["prompt-to-prompt", "ditctrl edit", "attention reweighting", "word swap", "video editing"],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.DynamicCombo.Input(
                    "edit",
                    tooltip=(
                        "reweight: the named words of the prompt count more or less. swap: the video of the original "
                        "prompt lends its layout to the sampler's positive prompt."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            REWEIGHT,
                            [
                                io.String.Input(
                                    "words",
                                    default="",
                                    tooltip=(
                                        "Words or phrases of the positive prompt, with commas between; needs Longreel "
                                        "Encode."
                                    ),
                                ),
                                io.Float.Input(
                                    "weight",
                                    default=2.0,
                                    min=-10.0,
                                    max=10.0,
                                    step=0.05,
                                    tooltip=(
                                        "How much the words count, -10 to 10: 0 removes them, 1 changes nothing, 2 "
                                        "doubles them, below 0 turns them around."
                                    ),
                                ),
                                io.Combo.Input(
                                    "form",
                                    options=list(FORMS),
                                    default=AFTER_SOFTMAX,
                                    tooltip=(
                                        "after softmax: the words' attention is multiplied (DiTCtrl). logits: the "
                                        "logarithm of the weight is added before the softmax, so that the other words "
                                        "share what these lose; weight 0 or more."
                                    ),
                                ),
                                _layers("all", "DiTCtrl's choice here"),
                                *_percents(0.0, 1.0, "the words count by their weight"),
                                io.Float.Input(
                                    "layout_percent",
                                    default=0.0,
                                    min=0.0,
                                    max=1.0,
                                    step=0.01,
                                    tooltip=(
                                        "Part of the schedule, from its beginning, in which the layout of the original "
                                        "is copied, 0 to 1. 0 copies nothing and costs nothing; DiTCtrl's first 2 of "
                                        "50 steps, 0.04, keep the keys and values of a whole segment in all layers."
                                    ),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            SWAP,
                            [
                                _layers("last 1/6", "DiTCtrl's last five of 30"),
                                *_percents(0.04, 0.5, "the layout is copied"),
                            ],
                        ),
                    ],
                ),
                io.Conditioning.Input(
                    "original",
                    optional=True,
                    tooltip=(
                        "The original's positive prompt, from a Longreel Encode of its own. Needed to swap; "
                        "reweighting copies the layout of the positive prompt itself where nothing is wired."
                    ),
                ),
                *keep_inputs("the original's"),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, **inputs) -> bool:
        check_values(cls, inputs)
        edit = inputs["edit"]  # one of the choices, see check_values
        check_layers(edit.get("layers") or "all")
        if None not in (given := (edit.get("start_percent"), edit.get("end_percent"))):
            check_percents(*given)
        if None not in (given := (edit.get("weight"), edit.get("form"))):
            check_weight(*given)
        if edit["edit"] == SWAP and "original" not in inputs:
            raise ValueError(NO_ORIGINAL)
        return True

    @classmethod
    def execute(cls, model, edit, original=None, **keep):
        edit = check_choice("edit", edit, (REWEIGHT, SWAP))
        layers = parse_layers(edit["layers"], block_count(model))
        start, end = edit["start_percent"], edit["end_percent"]
        if edit["edit"] == SWAP:
            if original is None:
                raise ValueError(NO_ORIGINAL)
            layout = Layout(original, start, end)
            return io.NodeOutput(prompt_edit.attach(model, PromptEdit(layers, layout=layout, keep=keep_of(**keep))))
        copied = edit["layout_percent"]
        if original is not None and not copied:
            raise ValueError(
                "an original is wired, and with layout_percent 0 none of it is copied; raise "
                "layout_percent, or take the wire off"
            )
        reweight = Reweight(parse_words(edit["words"]), edit["weight"], edit["form"], start, end)
        layout = Layout(original, 0.0, copied) if copied else None
        return io.NodeOutput(prompt_edit.attach(model, PromptEdit(layers, reweight, layout, keep_of(**keep))))


def _layers(default: str, whose: str) -> io.String.Input:
    return io.String.Input(
        "layers",
        default=default,
        tooltip=(
            f'Blocks of the network, from 0, in which the edit happens: "{default}" ({whose}), "25-29", "0, 3, 5", '
            f'"first 2".'
        ),
    )


def _percents(start: float, end: float, what: str) -> tuple[io.Float.Input, io.Float.Input]:
    return (
        io.Float.Input(
            "start_percent",
            default=start,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(f"Part of the schedule from which on {what}, 0 to 1; {start:g} is DiTCtrl's."),
        ),
        io.Float.Input(
            "end_percent",
            default=end,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(f"Part of the schedule up to which {what}, 0 to 1; {end:g} is DiTCtrl's."),
        ),
    )
