"""`dev.py render`: which storyboards a set has, what is queued for each, and what a second call makes again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longreel import dev
from longreel.engine.storyboard.board import Shot, Storyboard
from tests import render
from tests.comfy_process import ComfyError, ComfyProcess

BOARD = Storyboard((Shot("a big red circle moves up on a teal background", 1.0),), title="one", width=64, height=64)
JOINT = {
    "b": {"class_type": "LongreelStoryboard", "inputs": {"text": "{}"}},
    "s": {"class_type": "LongreelSampler", "inputs": {"mode": "joint"}},
}
ROLLOUT = {**JOINT, "s": {"class_type": "LongreelSampler", "inputs": {"mode": "rollout", "mode.run_name": "mine"}}}


class Server:
    """Stands in for a ComfyUI: saves one file for each prompt, or fails with what it is told, and notes the prompts."""

    def __init__(self, base: Path, fails: dict[str, str]):
        self.base, self.fails, self.process = base, fails, self
        self.output_path, self.queued, self.ended = base / "output", [], False
        self.output_path.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        self.ended = False
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def poll(self) -> int | None:
        return 1 if self.ended else None

    def to_prompt(self, workflow: dict) -> dict:
        return workflow

    def files(self, outputs: dict) -> list[Path]:
        return list(outputs.values())

    def run(self, prompt: dict, timeout: float, listen: object) -> dict:
        title = json.loads(prompt["b"]["inputs"]["text"])["title"]
        self.queued.append(title)
        if title in self.fails:
            self.ended = self.fails[title] == "ComfyUI ended"
            raise ComfyError(self.fails[title])
        file = self.output_path / f"{title}.mp4"
        file.write_text(title)
        return {"v": file}


def runs(out: Path, *titles: str) -> list[render.Run]:
    boards = (Storyboard(BOARD.shots, title=title) for title in titles)
    return [render.Run(board.title, board, out / board.title) for board in boards]


def rendered(
    monkeypatch: pytest.MonkeyPatch, out: Path, titles: str, fails: dict[str, str] | None = None, workflow=JOINT
):
    server = Server(out / render.COMFYUI, fails or {})
    monkeypatch.setattr(render, "start", lambda out: server)
    return render.render_all(workflow, runs(out, *titles.split()), out), server.queued


def test_a_second_call_makes_only_what_is_not_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    failed, queued = rendered(monkeypatch, tmp_path, "one two three", {"two": "no model\nat all"})
    assert failed == {"two": "no model\nat all"} and queued == ["one", "two", "three"]
    assert (tmp_path / "two" / "failed.txt").read_text() == "no model\nat all\n"
    assert not (tmp_path / "two" / "finished.json").exists()
    failed, queued = rendered(monkeypatch, tmp_path, "one two three")
    assert not failed and queued == ["two"] and not (tmp_path / "two" / "failed.txt").exists()
    (tmp_path / "three" / "three.mp4").unlink()
    assert rendered(monkeypatch, tmp_path, "one two three") == ({}, ["three"])


def test_a_comfyui_that_ended_is_started_again_for_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    failed, queued = rendered(monkeypatch, tmp_path, "one two", {"one": "ComfyUI ended"})
    assert list(failed) == ["one"] and queued == ["one", "two"]
    assert (tmp_path / "two" / "two.mp4").read_text() == "two"


def test_a_folder_of_another_workflow_is_not_taken_for_this_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    rendered(monkeypatch, tmp_path, "one")
    with pytest.raises(render.RenderError, match="another workflow or storyboard made; choose another --out"):
        rendered(monkeypatch, tmp_path, "one", workflow=ROLLOUT)


def test_the_storyboard_and_the_names_of_rollouts_are_put_in_and_the_rest_stays():
    assert render.with_storyboard(JOINT, BOARD, "one")["s"] == JOINT["s"]
    made = render.with_storyboard(ROLLOUT, BOARD, "one")
    assert json.loads(made["b"]["inputs"]["text"]) == BOARD.to_dict()
    assert made["s"]["inputs"] == {"mode": "rollout", "mode.run_name": "one"}
    assert ROLLOUT["s"]["inputs"]["mode.run_name"] == "mine"
    two = render.with_storyboard({**ROLLOUT, "t": ROLLOUT["s"]}, BOARD, "one")
    assert [two[key]["inputs"]["mode.run_name"] for key in "st"] == ["one-s", "one-t"]
    loaded = {"b": {"class_type": "LongreelLoadStoryboard", "inputs": {"file": "x.csv", "video": 0}}}
    assert render.with_storyboard(loaded, BOARD, "one")["b"] == made["b"]


@pytest.mark.parametrize("nodes", [{}, {**JOINT, "c": JOINT["b"]}])
def test_a_workflow_with_no_or_two_storyboards_is_refused(nodes: dict):
    with pytest.raises(render.RenderError, match=r"has [02] nodes Longreel Storyboard .* use one"):
        render.with_storyboard(nodes, BOARD, "one")


def test_ids_are_titles_else_names_of_files(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(board.to_dict()) + "\n" for board in (BOARD, BOARD)))
    (tmp_path / "b.json").write_text(Storyboard(BOARD.shots, title="what/ever").to_json())
    found = render.runs_of(render.files_of(str(tmp_path)), tmp_path / "out")
    assert [run.id for run in found] == ["one", "a-001", "b"]
    assert found[2].folder == tmp_path / "out" / "b"


def test_bundled_sets_are_known_by_name_and_chosen_by_id(tmp_path: Path):
    found = render.runs_of(render.files_of("transitions"), tmp_path)
    assert len(found) == 130
    assert [run.id for run in render.chosen(found, "style-0[12], action-13")] == ["style-01", "style-02", "action-13"]
    assert render.chosen(found, "") == found
    with pytest.raises(render.RenderError, match=r"asks for nothing-\*, and the set has no such id"):
        render.chosen(found, "nothing-*")
    with pytest.raises(render.RenderError, match="no set nowhere; write demo_world, transitions"):
        render.files_of("nowhere")


def test_a_bundled_workflow_takes_a_storyboard_of_each_set(comfy: ComfyProcess):
    for workflow in (render.WORKFLOW, dev.ROOT / "workflows" / "02_long_rollout_kept_on_disk.json"):
        prompt = comfy.to_prompt(json.loads(workflow.read_text(encoding="utf-8")))
        for name in ("demo_world", "transitions"):
            board = render.runs_of(render.files_of(name), Path("out"))[0].board
            assert comfy.validation_errors(render.with_storyboard(prompt, board, "one")) is None
