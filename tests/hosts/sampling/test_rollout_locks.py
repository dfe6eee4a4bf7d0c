"""Locked shots in rollout: they keep their frames whatever happens around them, or stop the run before it begins."""

import re
from dataclasses import replace

import pytest
import torch

from longreel.engine.plan.anchor import CLEAN
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.folder import RECORD, open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of, keys
from longreel.hosts.anchor import place
from longreel.hosts.sampling import rollout
from longreel.hosts.sampling.refine import refine
from longreel.hosts.sampling.rollout_locks import unkept_note
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

RED, BLUE, STAR = (
    "a big red circle moves right on a teal background",
    "a small blue square moves up on a black background",
    "a green star bounces on a pink background",
)
SECONDS = 1.1  # 5 latent frames as the first shot, 4 or 5 later


def shot(prompt: str, seconds: float = SECONDS, transition: str = "cut", **known) -> Shot:
    return Shot(prompt, seconds, transition, **known)


def board(*shots: Shot, **known) -> Storyboard:
    return Storyboard(shots, **{"width": 64, "height": 64, "fps": 16.0, "negative": "blurry", **known})


def plan(loaded, storyboard: Storyboard, segment: int = 5):
    return plan_timeline(storyboard, facts_of(loaded.model), segment_frames=segment, overlap_frames=2)


class Run:
    """Queue storyboards under one run name."""

    def __init__(self, loaded, folder):
        self.loaded, self.folder = loaded, folder / "run"

    def queue(self, storyboard, *, remove_old=False, segment=5, model=None, cut_short=False, **known):
        """-> (the LATENT, states by shot from 1, report)"""
        timeline = plan(self.loaded, storyboard, segment)
        latent = {"samples": empty(timeline)}
        sampling = sampling_of(
            encode(self.loaded, timeline), sigmas_of(self.loaded.model, 1), sampler_for(self.loaded.model), **known
        )
        with open_run(self.folder) as run, torch.inference_mode():
            model = self.loaded.model if model is None else model
            out, report = rollout.sample_rollout(model, timeline, latent, sampling, run=run, node_id="12")
            if not cut_short:
                run.finish(remove_old)
        said: dict[int, set[str]] = {}
        for number, state in re.findall(r"\(shot (\d+)\): (\w+)", report):
            said.setdefault(int(number), set()).add(state)
        return out, said, report

    def files(self) -> set[str]:
        return {path.name for path in self.folder.glob("chunk_*")}

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.name != "run.lock"}


@pytest.fixture
def run(tiny, tmp_path):
    return Run(tiny("wan21"), tmp_path)


def locked(*shots: Shot) -> tuple[Shot, ...]:
    return tuple(replace(one, locked=True) for one in shots)


def test_locked_shots_survive_a_new_style_and_a_new_shot_in_one_go(run):
    """Case 01: they were made again, and remove_old deleted their files."""
    run.queue(board(shot(RED), shot(BLUE)))
    before = run.files()
    edited = board(shot(STAR), *locked(shot(RED), shot(BLUE)), style="film grain")
    _, said, _ = run.queue(edited, remove_old=True)
    assert said == {1: {"made"}, 2: {"locked"}, 3: {"locked"}} and before <= run.files()


@pytest.mark.parametrize(
    "edit",
    [
        lambda shots: [shots[2], shots[0], shots[1]],
        lambda shots: shots[1:],
        lambda shots: shots[:1] + shots[2:],
        lambda shots: [shot("a purple triangle stays still"), *shots],
        lambda shots: [replace(shots[0], seconds=2.1, locked=False), *shots[1:]],
        lambda shots: [*shots, shot("a purple triangle stays still")],
        lambda shots: [shots[0], shot("a purple triangle stays still", 0.7, "blend"), *shots[1:]],
    ],
    ids=["last first", "first gone", "second gone", "new in front", "first longer", "new behind", "new between"],
)
def test_a_locked_shot_keeps_its_frames_wherever_it_stands(run, edit):
    """Case 02: it was refused after the shots before it were sampled, with a remedy that did not help."""
    shots = [shot(RED), shot(BLUE), shot(STAR)]
    first, _, _ = run.queue(board(*shots))
    borders = [one.start_frame for one in plan(run.loaded, board(*shots)).shots] + [first["samples"].shape[2]]
    frames = {
        one.prompt: first["samples"][:, :, start:end]
        for one, start, end in zip(shots, borders, borders[1:], strict=False)
    }
    storyboard = board(*edit(list(locked(*shots))))
    out, said, _ = run.queue(storyboard)
    made = out.get(keys.TIMELINE, plan(run.loaded, storyboard))
    assert made.latent_frames == out["samples"].shape[2]
    for number, placed in enumerate(made.shots):
        if placed.shot.locked:
            kept = frames[placed.shot.prompt]
            there = out["samples"][:, :, placed.start_frame : placed.start_frame + kept.shape[2]]
            assert torch.equal(there, kept), f"shot {number + 1}"
            assert said[number + 1] == {"locked"}
    again, said, _ = run.queue(storyboard)
    assert torch.equal(again["samples"], out["samples"]) and set.union(*said.values()) <= {"locked", "reused"}


def test_the_report_says_which_shots_moved(run):
    run.queue(board(shot(RED), shot(BLUE), shot(STAR)))
    _, _, report = run.queue(board(*locked(shot(STAR), shot(RED)), shot(BLUE)))
    moved = "locked shots keep their frames, and the plan gives way; shots that begin earlier or later than planned: 2"
    assert report.splitlines()[:2] == [f"{moved}, 3", "chunk 1 (shot 1): locked"]
    _, _, report = run.queue(board(*locked(shot(STAR), shot(BLUE))))
    assert report.splitlines()[0] == f"{moved}; the video has 9 latent frames where 10 were planned"


def test_a_refused_run_leaves_no_trace(run):
    """Case 13: a refused queue had already rewritten the record, and a locked shot was made again after going back."""
    shots = [shot(RED), shot(BLUE), shot(STAR)]
    run.queue(board(*shots))
    before = run.contents()
    keep = locked(*shots)
    for refused in (
        board(keep[2], keep[0], replace(keep[1], seconds=3.0)),
        board(*keep, *locked(shot("a purple triangle"))),
        board(*keep, width=128),
        board(*keep, fps=24.0),
    ):
        with pytest.raises(ValueError, match=r"^shot \d is locked"):
            run.queue(refused, remove_old=True)
        assert run.contents() == before
    _, said, _ = run.queue(board(*keep, negative="a star"))
    assert said == {1: {"locked"}, 2: {"locked"}, 3: {"locked"}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"seconds": 3.0},
            "shot 2 is locked and was made with seconds 1.1, where 3 is asked for; set seconds to 1.1 again, or",
        ),
        ({"fps": 24.0}, "shot 1 is locked and was made with fps 16, where 24 is asked for; set fps to 16 again, or"),
        (
            {"width": 128},
            "shot 1 is locked and was made in 1 videos of 16 channels and 64x64 pixels, where 1 videos of",
        ),
    ],
)
def test_what_a_lock_cannot_follow_is_refused_before_anything_is_sampled(run, change, says, monkeypatch):
    run.queue(board(shot(RED), shot(BLUE)))
    monkeypatch.setattr(rollout, "_sample", lambda *inputs: pytest.fail("something was sampled"))
    shots = [*locked(shot(RED), shot(BLUE)), shot(STAR)]
    if "seconds" in change:
        shots[1] = replace(shots[1], **change)
        change = {}
    with pytest.raises(ValueError, match=says):
        run.queue(board(*shots, **change))


def test_a_file_that_is_damaged_or_gone_stops_the_run_before_anything_is_sampled(run, monkeypatch):
    run.queue(board(shot(RED), shot(BLUE)))
    last = run.folder / max(run.files())
    whole = last.read_bytes()
    monkeypatch.setattr(rollout, "_sample", lambda *inputs: pytest.fail("something was sampled"))
    edited = board(shot(STAR), *locked(shot(BLUE)))
    for damage, says in (
        (lambda: last.write_bytes(whole[:-3]), "that are no whole safetensors file"),
        (last.unlink, "is gone"),
    ):
        damage()
        with pytest.raises(
            ValueError, match=f"^shot 2 is locked, and {last.name} .*{says}.*; nothing is made or removed"
        ):
            run.queue(edited, remove_old=True)
    last.write_bytes(whole)
    monkeypatch.undo()
    assert run.queue(edited)[1] == {1: {"made"}, 2: {"locked"}}


def test_a_lost_record_stops_locked_shots_that_would_be_made_again(run):
    shots = [shot(RED), shot(BLUE)]
    run.queue(board(*shots))
    record, before = run.folder / RECORD, run.files()
    record.write_text("{")
    damaged = run.contents()
    with pytest.raises(
        ValueError, match="^shot 2 is locked, and chunks.json, which says which files it used, is damaged"
    ):
        run.queue(board(shots[0], *locked(shots[1])), cfg=5.0, remove_old=True)
    assert run.contents() == damaged
    _, said, _ = run.queue(board(*locked(*shots)), remove_old=True)
    assert said == {1: {"locked"}, 2: {"locked"}} and run.files() == before


def test_another_storyboard_in_between_takes_no_lock(run):
    """D1: it was begun under the name and given up; then the locked shots were made again, and their files deleted."""
    shots = [shot(RED), shot(BLUE)]
    run.queue(board(*shots))
    before = run.files()
    run.queue(board(*locked(*shots)), cfg=6.0)
    run.queue(board(shot("a yellow star bounces"), shot("a big triangle moves down"), shot("x y z")), cut_short=True)
    for remove_old in (False, True):
        _, said, _ = run.queue(board(*locked(*shots)), cfg=6.0, remove_old=remove_old)
        assert said == {1: {"locked"}, 2: {"locked"}} and before <= run.files()


def test_ids_recognise_a_shot_whatever_else_was_edited(run):
    shots = [shot(RED, id="one"), shot(RED, id="two"), shot(RED, id="three")]
    first, _, _ = run.queue(board(*shots))
    edited = [replace(shots[1], prompt="quite another text", locked=True), shot("new", id="four")]
    out, said, _ = run.queue(board(*edited, style="film grain"), remove_old=True)
    placed = plan(run.loaded, board(*shots)).shots[1]
    kept = first["samples"][:, :, placed.start_frame : placed.end_frame]
    assert said[1] == {"locked"} and torch.equal(out["samples"][:, :, : kept.shape[2]], kept)
    with pytest.raises(
        ValueError, match="^shot 2 is locked, and none of the shots that run 'run' has made is recognised"
    ):
        run.queue(board(edited[0], replace(edited[1], id="five", locked=True)))


def test_a_shot_that_was_begun_is_ended_under_its_lock(run, monkeypatch):
    long = [shot(RED, 3.3), shot(BLUE)]
    real, left = rollout._sample, [2]

    def stop(*inputs, first):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*inputs, first=first)

    monkeypatch.setattr(rollout, "_sample", stop)
    with pytest.raises(KeyboardInterrupt):
        run.queue(board(*long))
    monkeypatch.undo()
    _, _, report = run.queue(board(*locked(long[0]), shot(BLUE)))
    states = re.findall(r"\(shot 1\): (\w+)", report)
    assert states[:2] == ["locked", "locked"] and set(states[2:]) == {"made"}


def test_other_segments_leave_a_locked_shot_its_chunks(run):
    first, _, _ = run.queue(board(shot(RED, 2.7), shot(BLUE)))
    out, said, _ = run.queue(board(*locked(shot(RED, 2.7)), shot(BLUE)), segment=7)
    border = plan(run.loaded, board(shot(RED, 2.7), shot(BLUE))).shots[1].start_frame
    assert said[1] == {"locked"} and torch.equal(out["samples"][:, :, :border], first["samples"][:, :, :border])


def test_anchors_move_with_their_shots(run):
    """A locked shot in front that is one latent frame longer than planned moves the shot behind it, and its anchor."""
    shots = [shot(RED), shot(BLUE, 2.0)]
    run.queue(board(*shots))
    storyboard = board(shot(STAR), *locked(shots[0]), shots[1])
    timeline = plan(run.loaded, storyboard)
    first = timeline.shots[2].start_frame
    picture = torch.full((1, 16, 1, 8, 8), 0.5)
    seconds = timeline.facts.first_pixel_frame(first) / timeline.fps
    model, _ = place.place(run.loaded.model, place.OneLatent(picture, seconds), mode="clean", timeline=timeline)
    out, _, _ = run.queue(storyboard, model=model)
    made = out.get(keys.TIMELINE, timeline)
    assert torch.equal(out["samples"][:, :, made.shots[2].start_frame], picture[:, :, 0])
    assert CLEAN == "clean"


def test_what_follows_takes_the_timeline_as_it_was_made(run):
    """Refine checks lengths and cuts against it; the plan's would be a latent frame off."""
    run.queue(board(shot(RED), shot(BLUE), shot(STAR)))
    storyboard = board(*locked(shot(STAR), shot(RED), shot(BLUE)))
    out, _, _ = run.queue(storyboard)
    timeline = plan(run.loaded, storyboard)
    assert [one.start_frame for one in out[keys.TIMELINE].shots] != [one.start_frame for one in timeline.shots]
    sampling = sampling_of(encode(run.loaded, timeline), sigmas_of(run.loaded.model, 2))
    with torch.inference_mode():
        fine = refine(run.loaded.model, out, sampling, strength=0.5, timeline=timeline)
    assert fine["samples"].shape == out["samples"].shape


def test_without_locks_the_timeline_and_the_chunks_are_those_of_before(run):
    out, _, report = run.queue(board(shot(RED), shot(BLUE)))
    assert keys.TIMELINE not in out and report.startswith("chunk 1 (shot 1): made: new")


def test_without_a_run_name_the_report_says_that_locks_keep_nothing(run):
    timeline = plan(run.loaded, board(shot(RED), *locked(shot(BLUE))))
    sampling = sampling_of(encode(run.loaded, timeline), sigmas_of(run.loaded.model, 1))
    with torch.inference_mode():
        _, report = rollout.sample_rollout(run.loaded.model, timeline, {"samples": empty(timeline)}, sampling)
    note = "locked, and made all the same because a run without run_name keeps nothing: shots 2"
    assert report.splitlines() == [note, "2 chunks made"]
    assert unkept_note(timeline, "mode joint keeps nothing").endswith("because mode joint keeps nothing: shots 2")
    assert unkept_note(plan(run.loaded, board(shot(RED))), "mode joint keeps nothing") == ""
