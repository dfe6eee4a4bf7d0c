"""Usual settings of each model, as core's own templates set them (package comfyui_workflow_templates).

A table, and which of its rows a loaded model is. Two models of one structure (Wan 2.1 14B, Wan 2.2 14B) cannot be told
apart, so there are rows of both. A model for which core has no template has none.
"""

import comfy.model_base

from ...engine.plan.usual_settings import UsualSettings
from ..types import BaseModel, Network

FOUR_STEPS = "with the LoRAs of 4 steps: 4 steps, cfg 1"
WAN_21_TEXT = UsualSettings(
    model="Wan 2.1 text to video",
    template="text_to_video_wan",
    steps=30,
    cfg=6.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=16.0,
)
WAN_21_IMAGE = UsualSettings(
    model="Wan 2.1 image to video",
    template="image_to_video_wan",
    steps=20,
    cfg=6.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=16.0,
)
WAN_22_TEXT = UsualSettings(
    model="Wan 2.2 14B text to video",
    template="video_wan2_2_14B_t2v",
    steps=20,
    cfg=3.5,
    shift=5.0,
    sampler="euler",
    scheduler="simple",
    fps=16.0,
    besides=FOUR_STEPS,
)
WAN_22_IMAGE = UsualSettings(
    model="Wan 2.2 14B image to video",
    template="video_wan2_2_14B_i2v",
    steps=20,
    cfg=3.5,
    shift=5.0,
    sampler="euler",
    scheduler="simple",
    fps=16.0,
    besides=FOUR_STEPS,
)
WAN_22_5B = UsualSettings(
    model="Wan 2.2 5B",
    template="video_wan2_2_5B_ti2v",
    steps=20,
    cfg=5.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=24.0,
)
WAN_22_S2V = UsualSettings(
    model="Wan 2.2 S2V",
    template="video_wan2_2_14B_s2v",
    steps=20,
    cfg=6.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=16.0,
    besides=FOUR_STEPS,
)
WAN_21_CAMERA = UsualSettings(
    model="Wan 2.1 Fun Camera",
    template="video_wan2.1_fun_camera_v1.1_1.3B",
    steps=20,
    cfg=6.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=16.0,
)
WAN_21_VACE = UsualSettings(
    model="Wan 2.1 VACE",
    template="video_wan_vace_14B_t2v",
    steps=4,
    cfg=1.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=16.0,
    besides="with the CausVid LoRA at strength 0.7; without it as Wan 2.1 text to video",
)
WAN_21_HUMO = UsualSettings(
    model="HuMo",
    template="video_humo",
    steps=6,
    cfg=1.0,
    shift=8.0,
    sampler="uni_pc",
    scheduler="simple",
    fps=25.0,
    besides="with the lightx2v LoRA",
)
HUNYUAN_VIDEO = UsualSettings(
    model="HunyuanVideo",
    template="hunyuan_video_text_to_video",
    steps=20,
    cfg=1.0,
    shift=7.0,
    sampler="euler",
    scheduler="simple",
    fps=24.0,
    besides="FluxGuidance 6 behind the prompts",
)
HUNYUAN_VIDEO_15 = UsualSettings(
    model="HunyuanVideo 1.5",
    template="video_hunyuan_video_1.5_720p_t2v",
    steps=20,
    cfg=6.0,
    shift=7.0,
    sampler="euler",
    scheduler="simple",
    fps=24.0,
)
LTXV = UsualSettings(
    model="LTXV",
    template="ltxv_text_to_video",
    steps=30,
    cfg=3.0,
    shift=None,
    sampler="euler",
    scheduler="LTXVScheduler",
    fps=25.0,
    besides="LTXVScheduler on segment_latent",
)
KANDINSKY_5 = UsualSettings(
    model="Kandinsky 5 Video",
    template="video_kandinsky5_t2v",
    steps=50,
    cfg=5.0,
    shift=5.0,
    sampler="euler_ancestral",
    scheduler="beta",
    fps=24.0,
)
TABLE = (
    WAN_21_TEXT,
    WAN_21_IMAGE,
    WAN_22_TEXT,
    WAN_22_IMAGE,
    WAN_22_5B,
    WAN_22_S2V,
    WAN_21_CAMERA,
    WAN_21_VACE,
    WAN_21_HUMO,
    HUNYUAN_VIDEO,
    HUNYUAN_VIDEO_15,
    LTXV,
    KANDINSKY_5,
)

OF_CLASS = {
    comfy.model_base.WAN22: WAN_22_5B,
    comfy.model_base.WAN22_S2V: WAN_22_S2V,
    comfy.model_base.WAN21_Camera: WAN_21_CAMERA,
    comfy.model_base.WAN21_Vace: WAN_21_VACE,
    comfy.model_base.WAN21_HuMo: WAN_21_HUMO,
    comfy.model_base.HunyuanVideo: HUNYUAN_VIDEO,
    comfy.model_base.HunyuanVideo15: HUNYUAN_VIDEO_15,
    comfy.model_base.LTXV: LTXV,
    comfy.model_base.Kandinsky5: KANDINSKY_5,
}
WIDTH_OF_1_3B, WIDTH_OF_14B = 1536, 5120
TEXT_CHANNELS, PICTURE_CHANNELS = 16, 36  # that Wan's networks take: a latent; and with a picture and its mask


def usual_of(model: BaseModel) -> tuple[UsualSettings, ...]:
    """Return the rows of the table that a model may be; none where core has no template for it."""
    kind = type(model)
    if kind is comfy.model_base.WAN21:
        return _of_plain_wan(model.diffusion_model)
    return (OF_CLASS[kind],) if kind in OF_CLASS else ()


def _of_plain_wan(network: Network) -> tuple[UsualSettings, ...]:
    """Return the rows of a plain Wan network; none for another size, or for other channels beside the latent."""
    size = network.dim, network.in_dim
    if size == (WIDTH_OF_1_3B, TEXT_CHANNELS):
        return (WAN_21_TEXT,)
    if size == (WIDTH_OF_14B, TEXT_CHANNELS):
        return WAN_21_TEXT, WAN_22_TEXT
    if size == (WIDTH_OF_14B, PICTURE_CHANNELS):
        return (WAN_22_IMAGE if network.img_emb is None else WAN_21_IMAGE,)
    return ()
