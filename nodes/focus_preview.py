"""Longreel Focus Preview: the masks of words, to be looked at before they are used."""

from comfy_api.latest import io

from ..engine.attention.focus_picture import focus_pictures, frames_of_latent
from ..engine.plan.spans import check_layers, parse_layers, parse_words
from ..hosts.families import block_count
from ..hosts.features.focus import Mask
from ..hosts.features.focus_preview import focus_maps
from .sockets import TimelineSocket
from .validation import verdict


class LongreelFocusPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelFocusPreview",
            display_name="Longreel Focus Preview",
            category="Longreel/memory",
            description="Shows, frame by frame, where the model sees the chosen words of the prompts, so that words "
            "and threshold of Longreel KV Share can be picked by looking. Evaluates the network once per segment.",
            search_aliases=["attention map", "mask preview", "focus words", "daam"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that samples, without Longreel Latent Blend; this node brings its own."
                ),
                TimelineSocket.Input("timeline", tooltip="From Longreel Plan."),
                io.Conditioning.Input("positive", tooltip="From Longreel Encode."),
                io.Latent.Input(
                    "latent", tooltip="A sampled latent of this timeline; the plan's empty one shows pure noise."
                ),
                io.Sampler.Input("sampler", tooltip="Any core sampler; Longreel Alpha Space Sampler for CogVideoX."),
                io.String.Input(
                    "words",
                    default="",
                    tooltip=(
                        "Words of the prompts that name the subject, with commas between; a shot's own focus words in "
                        "the storyboard go before them."
                    ),
                ),
                io.Float.Input(
                    "threshold",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "From which attention on, between the frame's least (0) and most (1), a place belongs to the "
                        "subject."
                    ),
                ),
                io.Float.Input(
                    "percent",
                    default=0.3,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip=("Part of the schedule, 0 to 0.99, whose noise the latent is given: 0 is pure noise."),
                ),
                io.String.Input(
                    "layers",
                    default="all",
                    tooltip=(
                        'Blocks that are averaged, from 0: "all", "0-24", "last 1/6". Longreel KV Share averages the '
                        "blocks up "
                        "to the one that shares."
                    ),
                ),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip="Of the noise; 0 to 2^64-1."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=("The decoded video: the pictures then show its frames, dimmed where the words are not."),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="pictures", tooltip="One per latent frame, with the mask's outline."),
                io.Mask.Output(display_name="masks", tooltip="One per latent frame, 1 where the threshold is reached."),
            ],
        )

    @classmethod
    def validate_inputs(cls, layers: str | None = None) -> bool | str:
        return verdict(lambda: check_layers("all" if layers is None else layers))

    @classmethod
    def execute(cls, model, timeline, positive, latent, sampler, words, threshold, percent, layers, seed, images=None):
        maps = focus_maps(
            model,
            timeline,
            positive,
            latent,
            sampler,
            Mask(parse_words(words), threshold),
            parse_layers(layers, block_count(model)),
            percent,
            seed,
        )[0]
        frames = None if images is None else frames_of_latent(images, timeline)
        pictures = focus_pictures(maps, threshold, timeline.width, timeline.height, frames)
        return io.NodeOutput(pictures, (maps >= threshold).float())
