"""Longreel Anchor Frame: the picture that the video must show at a second."""

import folder_paths
from comfy_api.latest import io, ui

from ..engine.plan.anchor import (
    AUTO,
    MODES,
    check_anchors,
    choose_mode,
    describe,
    of_length,
    place_anchor,
    place_in_shot,
)
from ..engine.storyboard.media import resolve_anchors
from ..hosts.anchor import frame as anchor_frame
from ..hosts.anchor import picture as anchor_picture
from ..hosts.anchor.frame import Anchored
from ..hosts.families import facts_of
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
                    "When the video shows the picture, in seconds from its start; 0 is the first frame, the method's own "
                    "place."
                ),
            )

        def vae():
            return io.Vae.Input("vae", tooltip="The video model's own VAE.")

        return io.Schema(
            node_id="LongreelAnchorFrame",
            display_name="Longreel Anchor Frame",
            category="Longreel",
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
                                        "Width of the video in pixels; 0 takes the timeline's, or without one the picture's."
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
                        "clean: without noise and at time 0 in every step, as published; for models that know a time for "
                        "each frame (Wan 2.2 5B, LTXV) and for weights trained for anchors. inpaint: a known frame, needs "
                        "no training. auto: what suits the model; the report says which and why."
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
                        "Frames per second in which the seconds are counted; 0 takes the timeline's, or without one the "
                        "model family's."
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
        chosen = check_choice("picture", picture, (IMAGE, LATENT, STORYBOARD))
        facts = facts_of(model)
        if timeline is not None and timeline.facts != facts:
            raise ValueError(
                f"the timeline is planned for {timeline.facts.family} and the model is {facts.family}; "
                f"wire this model into Longreel Plan"
            )
        mode, reason = choose_mode(mode, facts, anchor_frame.is_trained(model))
        if chosen["picture"] == STORYBOARD:
            anchored = _of_storyboard(chosen["vae"], timeline, facts, mode, strength)
        else:
            length = None if timeline is None else timeline.latent_frames
            rate = fps or (facts.native_fps if timeline is None else timeline.fps)
            place = place_anchor(chosen["seconds"], rate, facts, mode, strength, length)
            of_latent = chosen["picture"] == LATENT
            anchored = [_of_latent(chosen, place) if of_latent else _of_image(chosen, place, facts, timeline)]
            check_anchors([one.anchor for one in anchored], facts, length)
        report = "\n".join(describe(one.anchor, facts, reason) for one in anchored)
        return io.NodeOutput(anchor_frame.attach(model, anchored), report, ui=ui.PreviewText(report))


def _of_image(chosen: dict, place, facts, timeline) -> Anchored:
    image = chosen["image"]
    own = (image.shape[2], image.shape[1]) if timeline is None else (timeline.width, timeline.height)
    width, height = chosen["width"] or own[0], chosen["height"] or own[1]
    return Anchored(place, anchor_picture.encode_picture(chosen["vae"], image, place, facts, width, height))


def _of_latent(chosen: dict, place) -> Anchored:
    samples = chosen["latent"]["samples"]
    return Anchored(of_length(place, samples.shape[2]) if samples.ndim == 5 else place, samples)


def _of_storyboard(vae, timeline, facts, mode: str, strength: float) -> list[Anchored]:
    if timeline is None:
        raise ValueError(
            "the anchors of a storyboard stand on a timeline, and none is wired; wire the timeline of Longreel Plan"
        )
    paths = resolve_anchors(timeline.storyboard, folder_paths.get_input_directory())
    places = [
        (place_in_shot(timeline, shot, one.at, mode, strength), paths[one.image])
        for shot in timeline.shots
        for one in shot.shot.anchors
    ]
    if not places:
        raise ValueError(
            f'none of the {len(timeline.shots)} shots of the storyboard has anchors; write "anchors" in a shot, or choose '
            f"picture {IMAGE}"
        )
    check_anchors([place for place, _ in places], facts, timeline.latent_frames)
    width, height = timeline.width, timeline.height
    return [
        Anchored(
            place, anchor_picture.encode_picture(vae, anchor_picture.load_picture(path), place, facts, width, height)
        )
        for place, path in places
    ]
