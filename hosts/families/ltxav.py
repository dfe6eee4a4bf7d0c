"""LTX-2 and 2.3: facts and taps of the network that makes a video and its sound together.

Layout in comfy/ldm/lightricks/av_model.py. Its video half is built and placed in time as LTXV's is (ltxv.py), with the
same names; the sound has attentions of its own, and each half reads the other. A LATENT holds both as two tensors,
[B, 128, F, H, W] and [B, 8, T, 16], which core packs into one row of numbers for a sampler. What is said of tokens here
is said of the video.
"""

import comfy.model_base
from comfy.ldm.lightricks.av_model import LTXAVModel

from ...engine.plan.facts import ModelFacts, SoundFacts
from ..types import Network
from . import ltxv
from .ltxv import (
    blocks,
    entrance,
    heads,
    mask_of_clean_frames,
    patch_size,
    picture_channels,
    prompt_start,
    reads_noise_mask_amiss,
    replaceable_blocks,
    sites,
    text_in_front,
    text_place,
    time_shift,
    width,
)

__all__ = [
    "blocks",
    "entrance",
    "heads",
    "mask_of_clean_frames",
    "patch_size",
    "picture_channels",
    "prompt_start",
    "reads_noise_mask_amiss",
    "replaceable_blocks",
    "sites",
    "text_in_front",
    "text_place",
    "time_shift",
    "width",
]

NAME = "LTX-2"
NETWORK = LTXAVModel
TEXT_TOKENS = 1024
OVERWRITES_INPUTS = True
TAKES_FRAME_TIMES = ltxv.TAKES_FRAME_TIMES
TESTED = frozenset({comfy.model_base.LTXAV})

USUAL = ModelFacts(
    family="LTX-2",
    latent_channels=128,
    temporal_stride=8,
    spatial_stride=32,
    size_multiple=32,
    native_latent_frames=16,
    native_fps=25.0,
    knows_frame_times=True,
    unsaid_frame_rate=25.0,  # comfy/model_base.py, LTXAV.extra_conds
    # comfy/ldm/lightricks/vae/audio_vae.py: 16,000 samples a second, 160 to a column of the spectrum, 4 to a latent
    sound=SoundFacts(channels=8, frequencies=16, frames_per_second=25),
)
FACTS = (USUAL,)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of an LTX-2 model; None for a model of another family."""
    return USUAL if isinstance(model, comfy.model_base.LTXAV) else None


def text_width(network: Network) -> int | None:
    """Return None: text comes with the encoder's own layers, or ready for both halves, and the network takes either."""
    return None
