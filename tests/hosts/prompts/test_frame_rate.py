"""The storyboard's frames per second reach networks that place frames in seconds (LTXV), seen at the network."""

import pytest
import torch

import node_helpers

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.prompts.conditioning import FRAME_RATE, encode_timeline
from tests.hosts.rollout_cases import roll
from tests.hosts.windows.test_latent_blend import run

SHOTS = (Shot("a", 1.0), Shot("b", 1.0, "blend"))


def timeline_of(loaded, fps):
    board = Storyboard(SHOTS, width=64, height=64, fps=fps)
    return plan_timeline(board, facts_of(loaded.model), segment_frames=3, overlap_frames=1)


def encoded(loaded, fps):
    with torch.inference_mode():
        return encode_timeline(loaded.clip, timeline_of(loaded, fps))


@pytest.fixture
def rates(tiny, monkeypatch):
    """What the tiny LTXV network is told in each forward."""
    network, told = tiny("ltxv").model.model.diffusion_model, []
    forward = type(network).forward

    def noting(self, x, timestep, context, attention_mask, frame_rate=None, *args, **kwargs):
        told.append(frame_rate)
        return forward(self, x, timestep, context, attention_mask, frame_rate, *args, **kwargs)

    monkeypatch.setattr(type(network), "forward", noting)
    return told


@pytest.mark.parametrize("sample", [run, roll])
def test_the_network_places_frames_at_the_storyboards_rate(tiny, rates, sample):
    loaded = tiny("ltxv")
    sample(loaded, timeline_of(loaded, 30.0), steps=1)
    assert len(rates) > 1 and set(rates) == {30.0}


def test_a_rate_that_is_set_behind_longreel_encode_has_the_last_word(tiny, rates):
    loaded = tiny("ltxv")
    conds = [node_helpers.conditioning_set_values(one, {FRAME_RATE: 50.0}) for one in encoded(loaded, 30.0)]
    run(loaded, timeline_of(loaded, 30.0), conds=conds, steps=1)
    assert set(rates) == {50.0}


def test_the_rate_that_core_means_without_one_stays_unsaid_so_that_chunks_on_disk_are_found(tiny, rates):
    loaded = tiny("ltxv")
    unsaid = facts_of(loaded.model).unsaid_frame_rate
    conds = encoded(loaded, unsaid)
    assert not any(FRAME_RATE in options for entries in conds for _, options in entries)
    run(loaded, timeline_of(loaded, unsaid), conds=conds, steps=1)
    assert set(rates) == {unsaid}


def test_networks_that_know_no_seconds_are_told_nothing(tiny):
    for name in ("wan21", "hunyuan_video", "cogvideox10"):
        entries = [entry for conds in encoded(tiny(name), 30.0) for entry in conds]
        assert entries and not any(FRAME_RATE in options for _, options in entries)
