"""python -m longreel.cluster: the command that it hands over to, and the line that it ends with where it cannot."""

import json
import sys
from pathlib import Path

import pytest

from longreel.cluster.__main__ import _parser, command_of, main
from longreel.hosts.cluster import ray_library
from tests.comfy_inprocess import find_comfyui

START = ["start", "--block", "--disable-usage-stats"]


@pytest.fixture
def ray_is_there(monkeypatch):
    monkeypatch.setattr(ray_library, "import_ray", lambda loopback: None)
    monkeypatch.setenv("COMFYUI_PATH", str(find_comfyui()))
    for name in ray_library.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def commanded(*words: str, behind: tuple[str, ...] = ()) -> tuple[list[str], dict[str, str]]:
    command, variables = command_of(_parser().parse_args(words), list(behind))
    assert command[:2] == [sys.executable, "-c"]
    return command[3:], variables


def test_a_start_without_host_stays_on_this_machine(ray_is_there):
    command, variables = commanded("start")
    assert command == [*START, "--head", "--port", "6379", "--include-dashboard=false"]
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0" and variables["RAY_AUTH_MODE"] == "token"


def test_a_host_is_what_ray_binds_to(ray_is_there):
    command, variables = commanded("start", "--host", "10.0.0.5", "--port", "7000")
    assert command[-5:] == ["--port", "7000", "--include-dashboard=false", "--node-ip-address", "10.0.0.5"]
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1" and variables["RAY_AUTH_MODE"] == "token"


def test_a_machine_that_joins_says_where_its_comfyui_is(ray_is_there, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    command, variables = commanded("join", "10.0.0.5:6379", behind=("--base-directory", "data", "--lowvram"))
    assert command == [*START, "--address", "10.0.0.5:6379"]
    assert Path(variables["LONGREEL_CLUSTER_COMFYUI"]) == find_comfyui()
    assert json.loads(variables["LONGREEL_CLUSTER_ARGUMENTS"]) == [
        "--base-directory",
        str(tmp_path / "data"),
        "--lowvram",
    ]


def test_the_token_is_rays(ray_is_there):
    assert commanded("token")[0] == ["get-auth-token", "--generate"]


def test_without_ray_the_command_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["start", "--", "--cpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("longreel: Longreel Cluster needs Ray, and this Python has none") and said.count("\n") == 1
