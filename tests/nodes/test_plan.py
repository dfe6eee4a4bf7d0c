"""nodes/plan.py in a running ComfyUI: every input matters, bad ones stop before anything runs."""

import json
import re

import pytest

from longreel.engine.plan.rows import plan_rows
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError
from tests.engine.timeline_cases import WAN
from tests.nodes.graphs import BOARD, change, latent, node, planned, refusals, report, saved


@pytest.fixture(scope="module")
def base(tiny_models):
    return planned(tiny_models["wan21"])


@pytest.fixture(scope="module")
def base_report(server, base):
    return report(server, base)


def test_the_report_and_the_empty_latent_are_those_of_the_timeline(server, base, base_report):
    timeline = plan_timeline(BOARD, WAN, segment_frames=5, overlap_frames=2)
    for planned_shot in timeline.shots:
        first, last = timeline.shot_pixel_frames(planned_shot)
        assert f"{first}-{last - 1} ({last - first})" in base_report
    assert f"gets {timeline.seconds:.3f} s = {timeline.pixel_frames} pixel frames" in base_report
    empty = latent(server, {**base, **saved("plan", 1)})
    assert tuple(empty.shape) == (1, 16, timeline.latent_frames, 8, 8) and not empty.any()
    segment = latent(server, {**base, **saved("plan", 5)})
    assert tuple(segment.shape) == (1, 16, 5, 8, 8) and not segment.any()


def test_the_page_is_given_what_it_draws(server, base):
    shown = server.run(base)["plan"]
    timeline = plan_timeline(BOARD, WAN, segment_frames=5, overlap_frames=2)
    assert shown["longreel_plan"] == [json.loads(json.dumps(plan_rows(timeline, (64, 64))))]
    assert shown["text"][0].startswith("shot")


def test_width_height_and_frames_are_what_cores_nodes_ask_for(server, base):
    size = {"width": ["plan", 6], "height": ["plan", 7], "length": ["plan", 8], "batch_size": 1}
    of_core = node("EmptyHunyuanLatentVideo", **size)
    wide = change(base, "plan", width=100, height=72)  # planned as 96 x 80
    expected = latent(server, {**wide, **saved("plan", 1)})
    assert latent(server, {**wide, "empty": of_core, **saved("empty", 0)}).shape == expected.shape


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"segment_frames": 33}, "of up to 9 latent frames"),
        ({"overlap_frames": 4}, "overlap 1,"),
        ({"overlap_frames": -1}, "of up to 5 latent frames, overlap 2,"),
        ({"transition_prompts": 3}, "3 transition prompts per blend"),
        ({"steps": 7}, "segments x 7 steps"),
        ({"guidance": False}, "x 1 prompts (without guidance"),
        ({"segment_frames": 0}, "the model was trained on 21 latent frames"),
    ],
)
def test_every_number_changes_the_report(server, base, base_report, inputs, expected):
    changed = report(server, change(base, "plan", **inputs))
    assert expected in changed
    assert changed != base_report or inputs == {"overlap_frames": -1}  # 2 is what -1 stands for here


def test_width_and_height_change_the_latent_and_the_memory(server, base, base_report):
    wide = {**change(base, "plan", width=128, height=96), **saved("plan", 1)}
    assert tuple(latent(server, wide).shape[-2:]) == (12, 16)
    text = report(server, wide)
    assert "128 x 96 pixels" in text and "64 x 64 pixels" in base_report
    memory = [re.search(r"window .* ([\d.]+) MiB with one prompt", one)[1] for one in (base_report, text)]
    assert float(memory[1]) > float(memory[0])


def test_a_size_off_the_grid_is_rounded_and_the_report_says_so(server, base, base_report):
    board = Storyboard((Shot("a", 1.0),), width=60, height=72)
    prompt = {**change(base, "board", text=board.to_json()), **saved("plan", 1)}
    assert "60x72 asked, 64x80 planned (Wan works in multiples of 16 pixels)" in report(server, prompt)
    assert tuple(latent(server, prompt).shape[-2:]) == (10, 8)
    assert "100x72 asked, 96x80 planned" in report(server, change(prompt, "plan", width=100))
    assert "planned (" not in base_report


@pytest.mark.parametrize(
    ("name", "text", "channels"),
    [
        ("ltxv", "LTXV: ", 128),
        ("hunyuan_video", "HunyuanVideo: ", 16),
        ("hunyuan_video15", "HunyuanVideo 1.5: ", 32),
        ("kandinsky5", "Kandinsky 5: ", 16),
        ("cogvideox10", "CogVideoX: ", 16),
        ("wan22_5b", "Wan 2.2 5B: ", 48),
    ],
)
def test_the_model_decides_frames_and_channels(server, tiny_models, name, text, channels):
    board = Storyboard((Shot("a", 4.0),), width=64, height=64)
    prompt = {**planned(tiny_models[name], board), **saved("plan", 1)}
    outputs = server.run(prompt)
    tiny = tiny_models[name]
    frames = 1 + round(63 / tiny.temporal_stride)
    assert text in outputs["plan"]["text"][0]
    assert tuple(latent(server, change(prompt, "save", filename_prefix=name)).shape) == (
        1,
        channels,
        frames,
        64 // tiny.spatial_stride,
        64 // tiny.spatial_stride,
    )


def test_the_storyboard_decides_the_shots(server, base, base_report):
    other = report(server, change(base, "board", text=Storyboard((Shot("a fox", 3.0),), width=64, height=64).to_json()))
    assert "a fox" in other and "a star" in base_report and "a star" not in other


def test_fps_and_seed_come_from_the_storyboard(server, base):
    board = Storyboard((Shot("a", 2.0),), width=64, height=64, fps=24.0, seed=2**64 - 1)
    prompt = {
        **change(base, "board", text=board.to_json()),
        "fps": node("PreviewAny", source=["plan", 3]),
        "seed": node("PreviewAny", source=["plan", 4]),
    }
    outputs = server.run(prompt)
    assert outputs["fps"]["text"] == ["24.0"] and outputs["seed"]["text"] == [str(2**64 - 1)]


@pytest.mark.parametrize(
    ("name", "inputs", "reason"),
    [
        ("plan", {"segment_frames": 80}, "80 pixel frames is not 4n+1 for any family; use 77 or 81"),
        ("plan", {"segment_frames": 1}, "segment_frames is 1, and a segment needs 5 or more; use 0 for the default"),
        ("plan", {"segment_frames": 4101}, "segment_frames is 4101; use 0 to 4097"),
        (
            "plan",
            {"overlap_frames": 17},
            "overlap_frames is 17, which does not fit into segment_frames 17; use up to 16",
        ),
        ("plan", {"overlap_frames": -2}, "overlap_frames is -2; use -1 to 4096"),
        ("plan", {"height": -16}, "height is -16; use 0 to 16384"),
        ("plan", {"transition_prompts": 17}, "transition_prompts"),
        ("plan", {"steps": 0}, "steps"),
        (
            "board",
            {"text": "a fox"},
            "the storyboard is not JSON: Expecting value (line 1, column 1); correct the text there",
        ),
        (
            "board",
            {"text": BOARD.to_json().replace('"title"', '"titel"')},
            'titel is not a known key; did you mean "title"?',
        ),
        (
            "board",
            {"text": BOARD.to_json().replace('"seconds": 2', '"seconds": -2', 1)},
            "shot 1: seconds is -2; write seconds above 0 and up to 3600",
        ),
        (
            "board",
            {"text": json.dumps({"longreel": 1, "shots": [{"prompt": "a", "seconds": 1}] * 10_000})},
            "the storyboard has 10000 shots; the limit is 1000: split it into several storyboards",
        ),
        (
            "board",
            {
                "text": json.dumps(
                    {
                        "longreel": 1,
                        "shots": [{"prompt": "a", "seconds": 1, "anchors": [{"at": 0, "image": "../a.png"}]}],
                    }
                )
            },
            "which leaves the input folder",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_runs_with_field_and_remedy(server, base, name, inputs, reason):
    found = refusals(server, change(base, name, **inputs))
    assert found and all(reason in line and "\n" not in line for line in found), found


@pytest.mark.parametrize(
    ("inputs", "board", "reason"),
    [
        (
            {"segment_frames": 0, "overlap_frames": 84},
            BOARD,
            "an overlap of 21 latent frames does not fit into segments of 8; use 0 to 7 (up to 28 pixel frames), or "
            "longer",
        ),
        (
            {},
            Storyboard((Shot("a", 4.0), Shot("b", 4.0, "blend", overlap_seconds=3.0)), width=64, height=64),
            "shot 2: overlap_seconds 3 is 12 latent frames, but a segment has 5; use 1 s or less, or longer segments",
        ),
        (
            {},
            Storyboard((Shot("a", 4.0), Shot("b", 0.1)), width=64, height=64),
            "shot 2: seconds 0.1 is 1.6 pixel frames at 16 fps, less than one latent frame (4) of Wan; use 0.25 s or "
            "more",
        ),
    ],
)
def test_what_only_the_model_can_tell_is_refused_before_sampling(server, base, inputs, board, reason):
    with pytest.raises(ComfyError) as caught:
        server.run(change(change(base, "board", text=board.to_json()), "plan", **inputs))
    line = str(caught.value).splitlines()[0]
    assert line.startswith("LongreelPlan (node plan): ") and reason in line


def test_a_model_of_another_kind_of_length_is_told_its_own_rule(server, tiny_models):
    with pytest.raises(ComfyError, match="85 pixel frames is not 8n\\+1 for LTXV; use 81 or 89"):
        server.run(change(planned(tiny_models["ltxv"]), "plan", segment_frames=85))


def test_a_plan_that_does_not_fit_into_memory_is_reported_and_its_latent_refused_with_the_bytes(server, base):
    """Three hours at 240 fps and 832 x 480: 259 GB."""
    hours = Storyboard(tuple(Shot(f"hour {i}", 3600.0) for i in range(3)), fps=240.0, width=832, height=480)
    huge = change(change(base, "board", text=hours.to_json()), "plan", segment_frames=0, overlap_frames=-1, width=1664)
    shown = {}

    def listen(kind, data):
        if kind == "executed" and data["node"] == "plan":
            shown.update(data["output"])

    with pytest.raises(
        ComfyError, match=r"the latent of 648,001 latent frames at 1664x480 pixels needs [\d,]+ bytes, and [\d,]+ are"
    ):
        server.run({**huge, **saved("plan", 1)}, listen=listen)
    assert "648001 latent frames" in shown["text"][0] and "does not fit: this run needs" in shown["text"][0]
    assert "648001 latent frames" in report(server, huge)  # nothing asks for the latent


def test_an_endless_plan_is_refused_in_words(server, base):
    endless = Storyboard(tuple(Shot(f"hour {i}", 3600.0, "blend") for i in range(40)), fps=240.0, width=64, height=64)
    with pytest.raises(ComfyError, match="latent frames in segments of 2 that share 1 are about .* at most 200,000"):
        server.run(change(change(base, "board", text=endless.to_json()), "plan", segment_frames=5, overlap_frames=4))
