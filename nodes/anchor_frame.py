"""Longreel Anchor Frame: the picture that the video must show at a second."""

import folder_paths
from comfy_api.latest import io, ui

from ..engine.plan.anchor import AUTO, MODES
from ..hosts.anchor.place import OneLatent, OnePicture, Source, StoryboardPictures, place
from .choices import check_choice
from .sockets import TimelineSocket

IMAGE, LATENT, STORYBOARD = "image", "latent", "storyboard"


class LongreelAnchorFrame(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 0, "min": 0, "max": 16384, "step": 8}

        def seconds():
            return io.Float.Input(
                "seconds",
                default=0.0,
                min=0.0,
                max=3600.0,
                step=0.05,
                tooltip=(
                    "When the video shows the picture, in seconds from its start; 0 is the first frame, the method's "
                    "own place."
                ),
            )

        def vae():
            return io.Vae.Input("vae", tooltip="The video model's own VAE.")

        return io.Schema(
            node_id="LongreelAnchorFrame",
            display_name="Longreel Anchor Frame",
            category="Longreel/anchor",
            description="The video obeys a picture at a second: its latent takes the place of a noisy frame and comes "
            "out as it went in (Anchored Video Generation). With a right first frame fewer steps are "
            "needed. Several of these nodes may follow each other; give both experts of Wan 2.2 14B the "
            "same.",
            search_aliases=[
                "first frame",
                "keyframe",
                "image to video",
                "fvg",
                "avg",
                "factorized video generation",
                "start image",
                "end frame",
                "reference image",
                "reference",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                io.DynamicCombo.Input(
                    "picture",
                    tooltip=(
                        "image: a picture. latent: an encoded picture, or a clip. storyboard: all pictures that the "
                        "timeline's storyboard names in its shots' anchors."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            IMAGE,
                            [
                                io.Image.Input(
                                    "image", tooltip="One picture; it is cut and scaled to the video's size."
                                ),
                                vae(),
                                seconds(),
                                io.Int.Input(
                                    "width",
                                    **side,
                                    tooltip=(
                                        "Width of the video in pixels; 0 takes the timeline's, or without one the "
                                        "picture's."
                                    ),
                                ),
                                io.Int.Input(
                                    "height",
                                    **side,
                                    tooltip=(
                                        "Height of the video in pixels; 0 takes the timeline's, or without one the "
                                        "picture's."
                                    ),
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            LATENT,
                            [
                                io.Latent.Input(
                                    "latent",
                                    tooltip=(
                                        "Of the video's width and height; as many latent frames as it has are held."
                                    ),
                                ),
                                seconds(),
                            ],
                        ),
                        io.DynamicCombo.Option(STORYBOARD, [vae()]),
                    ],
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=AUTO,
                    tooltip=(
                        "clean: without noise and at time 0 in every step, as published; for models that know a time "
                        "for each frame (Wan 2.2 5B, LTXV) and for weights trained for anchors. inpaint: a known "
                        "frame, needs no training. auto: what suits the model; the report says which and why."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=("How firmly the frame is held, 0 to 1: 1 exactly as it is, 0 not at all."),
                ),
                TimelineSocket.Input(
                    "timeline",
                    optional=True,
                    tooltip=("From Longreel Plan: gives size, length and frame rate, and the storyboard's anchors."),
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Frames per second in which the seconds are counted; 0 takes the timeline's, or without one "
                        "the model family's."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(),
                io.String.Output(
                    display_name="report", tooltip=("For each anchor: second, pixel frame, latent frame, mode and why.")
                ),
            ],
        )

    @classmethod
    def execute(cls, model, picture, mode, strength, timeline=None, fps=0.0):
        anchored, report = place(model, _source(picture), mode=mode, strength=strength, timeline=timeline, fps=fps)
        return io.NodeOutput(anchored, report, ui=ui.PreviewText(report))


def _source(picture: dict) -> Source:
    """Return where the anchors come from, as the user chose it."""
    chosen = check_choice("picture", picture, (IMAGE, LATENT, STORYBOARD))
    if chosen["picture"] == IMAGE:
        return OnePicture(chosen["image"], chosen["vae"], chosen["seconds"], chosen["width"], chosen["height"])
    if chosen["picture"] == LATENT:
        return OneLatent(chosen["latent"]["samples"], chosen["seconds"])
    return StoryboardPictures(chosen["vae"], folder_paths.get_input_directory())
