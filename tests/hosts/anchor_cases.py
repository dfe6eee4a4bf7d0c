"""Anchors on the tiny models for the tests of hosts/anchor/frame.py and of the families' frame-time adapters."""

import torch

from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.anchor.frame import Anchored

MODES = (CLEAN, INPAINT)


def empty(loaded, frames=6):
    """[1, C, frames, H, W] of 64 x 64 pixels, all zero."""
    facts = facts_of(loaded.model)
    return torch.zeros(1, facts.latent_channels, frames, 64 // facts.spatial_stride, 64 // facts.spatial_stride)


def picture(loaded, frames=1, seed=3):
    """A latent that a video model could have made of a picture."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(empty(loaded, frames).shape, generator=generator)


def anchored(loaded, frame=0, mode=CLEAN, strength=1.0, seed=3):
    """An anchor that begins at this latent frame."""
    facts = facts_of(loaded.model)
    place = place_anchor(facts.first_pixel_frame(frame) / 16, 16.0, facts, mode, strength)
    return Anchored(place, picture(loaded, place.frames, seed))


def with_anchor(loaded, frame=0, mode=CLEAN, strength=1.0, seed=3, model=None):
    return anchor_frame.attach(model or loaded.model, [anchored(loaded, frame, mode, strength, seed)])
