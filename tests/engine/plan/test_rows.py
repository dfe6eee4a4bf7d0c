"""engine/plan/rows.py and asked.py: the numbers of the timeline as data, and what the node's inputs mean."""

from __future__ import annotations

import json

import pytest

from longreel.engine.plan import rows
from longreel.engine.plan.asked import Asked, plan_as_asked
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.engine.timeline_cases import WAN

BOARD = Storyboard(
    (Shot("a", 2.0, id="x"), Shot("b", 1.55, "blend", overlap_seconds=0.5, locked=True), Shot("c", 3.0, "cut")),
    width=100,
    height=64,
)


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return plan_timeline(BOARD, WAN, segment_frames=5, overlap_frames=2, width=96)


def test_every_shot_has_what_it_asked_for_and_what_it_gets(timeline: Timeline):
    data = json.loads(json.dumps(rows.plan_rows(timeline)))
    first, second, third = data["shots"]
    assert (first["asked_seconds"], first["seconds"], first["pixel_frames"]) == (2.0, 33 / 16, [0, 33])
    assert (second["asked_seconds"], second["latent_frames"], second["overlap_frames"]) == (1.55, [9, 15], 2)
    assert [shot["meets"] for shot in data["shots"]] == ["start", "blend", "cut"]
    assert [shot["id"] for shot in data["shots"]] == ["x", None, None] and second["locked"] is True
    assert third["segments"][1] == data["segment_count"] == len(timeline.segments)
    assert first["pixel_frames"][1] == second["pixel_frames"][0] and data["pixel_frames"] == timeline.pixel_frames
    assert sum(shot["seconds"] for shot in data["shots"]) == data["seconds"] == timeline.seconds
    assert data["segments"][0] == [0, 5, 1] and data["segments"][-1][2] == 3
    chunks = plan_chunks(timeline, 2)
    assert data["chunk_count"] == len(chunks) and data["chunks"][-1][1] == timeline.latent_frames


def test_of_very_many_segments_only_the_number_is_given(timeline: Timeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "MOST_DRAWN", 2)
    data = rows.plan_rows(timeline)
    assert len(data["segments"]) == len(data["chunks"]) == 2 and data["segment_count"] > 2 < data["chunk_count"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({}, {}),
        ({"width": 64, "height": 128}, {"width": 64, "height": 128}),
        ({"segment_frames": 17}, {"segment_frames": 5}),
        ({"segment_frames": 17, "overlap_frames": 9}, {"segment_frames": 5, "overlap_frames": 2}),
        ({"overlap_frames": 0}, {"overlap_frames": 0}),
        ({"transition_prompts": 3}, {"transition_prompts": 3}),
    ],
)
def test_inputs_of_the_node_mean_pixels_and_pixel_frames(asked: dict[str, int], meant: dict[str, int]):
    assert plan_as_asked(BOARD, WAN, Asked(**asked), lambda: None) == plan_timeline(BOARD, WAN, **meant)
    size = (asked.get("width", 100), asked.get("height", 64))
    assert Asked(**asked).size(BOARD) == size
