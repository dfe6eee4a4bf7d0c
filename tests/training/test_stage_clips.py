"""training/stage_clips.py: what a network hears of a clip beside its prompts."""

from dataclasses import replace

import pytest

from longreel.training.stage_clips import StageClips
from longreel.training.stages import Stage
from tests.training.tiny_student import FACTS, TinyEncoder, make_config, write_board, write_clip


@pytest.mark.parametrize("told", [True, False])
def test_networks_that_place_frames_in_seconds_are_told_each_clips_rate(tmp_path, told):
    """With its prompts and without them."""
    write_clip(tmp_path / "clips", "a", 2)
    write_clip(tmp_path / "clips", "b", 2)
    write_board(tmp_path / "clips", "b", ["b part 0", "b part 1"], seconds=0.5, fps=16)
    config = make_config(tmp_path, (Stage("2s", 2, 1, ttt_rate=1e-3),))
    facts = replace(FACTS, unsaid_frame_rate=25.0) if told else FACTS
    clips = StageClips(config, TinyEncoder(), facts)
    clips.prepare()
    heard = [
        clips.conditioning(part, unconditional).get("frame_rate")
        for part in clips.trained[0]
        for unconditional in (False, True)
    ]
    if told:
        assert [rate.tolist() for rate in heard] == [[8.0, 8.0]] * 2 + [[16.0, 16.0]] * 2
    else:
        assert heard == [None] * 4
