"""`python dev.py gpu`: whatever a row does, the others run, and what was found is in the file. No torch is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.gpu import machine_setup, runner
from tests.bench.gpu.report import DIED, FAILED, OK, SKIPPED, TIMED_OUT, WAITING, Report
from tests.bench.gpu.rows import all_rows
from tests.bench.gpu.runner import Row, run_rows

ROWS = """
import json, os, signal, subprocess, sys, time

def good(record, **settings):
    record("settings", settings)
    record("not a number", float("nan"))

def raises(record):
    record("before", 1)
    raise ValueError("the text of it")

def hangs(record):
    record("before", 2)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record("child", child.pid)
    time.sleep(60)

def ends_itself(record):
    record("before", 3)
    os.kill(os.getpid(), signal.SIGKILL)

def exits(record):
    os._exit(7)

def waits_for_its_figure(record, path):
    record("first", 4)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if json.load(open(path))["rows"]["waits"].get("figures") == {"first": 4}:
            return record("seen in the file", True)
        time.sleep(0.05)
    raise TimeoutError("the file did not hold the figure")
"""


def measured(folder: Path, rows: list[Row], seconds: float = 60.0) -> dict:
    """The file's content after these rows, whose functions are those of ROWS."""
    (folder / "rows_of_test.py").write_text(ROWS, encoding="utf-8")
    report = Report(folder / "out.json", [row.name for row in rows])
    path = os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[1]), *sys.path])
    run_rows(rows, report, seconds, {"PYTHONPATH": path}, folder)
    return json.loads(report.path.read_text(encoding="utf-8"))


def row(name: str, function: str, seconds: float = 30.0, **settings) -> Row:
    return Row(name, f"rows_of_test:{function}", seconds, settings)


def test_rows_that_fail_cost_the_others_nothing(tmp_path: Path):
    rows = [
        row("raises", "raises"), row("dies", "ends_itself"), row("exits", "exits"), row("absent", "no_such_function"),
        Row("no module", "no_such_module:function", 30.0), row("good", "good", size=3),
    ]  # fmt: skip
    found = measured(tmp_path, rows)["rows"]
    assert list(found) == [row.name for row in rows]
    assert [found[name]["state"] for name in found] == [FAILED, DIED, DIED, FAILED, FAILED, OK]
    error = found["raises"]["error"]
    assert (error["type"], error["text"]) == ("ValueError", "the text of it")
    assert "raises" in error["frames"][-1] and found["raises"]["figures"] == {"before": 1}
    assert "SIGKILL" in found["dies"]["why"] and found["dies"]["figures"] == {"before": 3}
    assert "exit code 7" in found["exits"]["why"]
    assert found["no module"]["error"]["text"] == "No module named 'no_such_module'"
    assert found["good"]["figures"] == {"settings": {"size": 3}, "not a number": "nan"}


def test_a_row_that_hangs_ends_with_all_that_it_started(tmp_path: Path):
    started = time.monotonic()
    found = measured(tmp_path, [row("hangs", "hangs", seconds=2.0), row("good", "good")])["rows"]
    assert time.monotonic() - started < 15
    assert found["hangs"]["state"] == TIMED_OUT and found["hangs"]["figures"]["before"] == 2
    assert found["good"]["state"] == OK
    child = Path(f"/proc/{found['hangs']['figures']['child']}/stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_the_budget_ends_the_run_and_not_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "LEAST_SECONDS", 0.5)
    found = measured(tmp_path, [row("good", "good"), row("hangs", "hangs"), row("late", "good")], seconds=3.0)["rows"]
    assert [r["state"] for r in found.values()] == [OK, TIMED_OUT, SKIPPED]
    assert "3 s" in found["late"]["why"]


def test_a_figure_is_in_the_file_while_its_row_still_runs(tmp_path: Path):
    found = measured(tmp_path, [row("waits", "waits_for_its_figure", path=str(tmp_path / "out.json"))])["rows"]
    assert found["waits"]["figures"] == {"first": 4, "seen in the file": True}


def test_the_file_is_whole_from_the_beginning_and_after_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = Report(tmp_path / "new" / "out.json", ["a", "b"], rehearsal=True)
    first = json.loads(report.path.read_text())
    assert first["rows"] == {"a": {"state": WAITING}, "b": {"state": WAITING}} and first["rehearsal"] is True
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        report.figure("a", "x", 1)
    assert json.loads(report.path.read_text()) == first


def test_the_rows_come_in_the_order_of_their_value_and_the_rehearsal_has_them_all():
    names = [row.name for row in all_rows(rehearse=False)]
    assert names == [row.name for row in all_rows(rehearse=True)] and len(set(names)) == len(names)
    assert names[0] == "machine" and names[1].startswith("TTT kernel mlp bfloat16")
    for r in all_rows(rehearse=True):
        module, function = r.target.split(":")
        source = machine_setup.ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        assert f"\ndef {function}(" in source, f"{r.name}: {r.target} is not there"


def test_the_rows_ask_for_features_that_are_there():
    from tests.bench.gpu.sampling import FEATURES

    asked = {r.settings["feature"] for r in all_rows(rehearse=False) if "feature" in r.settings}
    assert asked == set(FEATURES)


def test_without_torch_and_comfyui_every_row_is_there_and_names_what_is_missing(tmp_path: Path):
    """A Python without packages, as the barest machine would have: -S leaves site-packages out."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "tests").symlink_to(machine_setup.ROOT / "tests")
    (links / "longreel").symlink_to(machine_setup.ROOT)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    run = (
        "import sys, runpy; sys.executable = sys.argv.pop(1); runpy.run_module('tests.bench.gpu', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(links), "COMFYUI_PATH": str(tmp_path / "nowhere")}
    command = [str(bare), "-c", run, str(bare), "--rehearse", "--out", str(tmp_path / "out"), "--only", "TTT"]
    done = subprocess.run(command, cwd=links, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(next((tmp_path / "out").glob("*.json")).read_text())["rows"]
    assert found["module torch"]["error"]["text"] == "No module named 'torch'"
    assert found["ComfyUI"]["state"] == FAILED
    rows = [r for name, r in found.items() if name.startswith("TTT")]
    assert len(rows) > 5 and all(r["error"]["type"] == "ModuleNotFoundError" for r in rows)


def test_the_stand_in_imports_and_raises_where_it_is_used(tmp_path: Path):
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(machine_setup.STAND_IN, encoding="utf-8")
    code = "import av; from av.video.reformatter import ColorRange; kind = ColorRange | None; av.open('x')"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "No module named 'av'" in done.stderr.splitlines()[-1]
