"""Where there is no Ray, and how it is bound: hosts/cluster/ray_library.py without starting one."""

import sys
import types

import pytest

from longreel.hosts.cluster import pool, ray_library
from longreel.hosts.cluster.settings import ClusterError


def test_without_ray_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError) as raised:
        ray_library.connect("", 2)
    said = str(raised.value)
    assert "\n" not in said
    assert 'pip install "longreel[cluster]"' in said and f'{sys.executable} -m pip install "ray>=2.52"' in said


def test_on_windows_one_line_says_that_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ClusterError, match=r"^Longreel Cluster needs Linux or macOS, and this is Windows.*WSL$"):
        ray_library.connect("10.0.0.5:6379", 2)


def test_a_cluster_of_this_machine_is_bound_to_it_and_the_users_word_holds(monkeypatch):
    for name in ray_library.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    own, other = ray_library.environment(loopback=True), ray_library.environment(loopback=False)
    assert own == {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    assert other == {**own, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_library.environment(loopback=False)["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("", True),
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("10.0.0.5:6379", False),
        ("127.0.0.1.evil:1", False),
    ],
)
def test_an_address_of_this_machine_alone_stays_on_it(address, alone):
    assert ray_library.is_loopback(address) is alone


def test_a_ray_that_has_no_token_is_refused(monkeypatch):
    old, private = types.ModuleType("ray"), types.ModuleType("ray._private")
    old.__version__, private.ray_constants = "2.51.1", types.ModuleType("ray_constants")
    monkeypatch.setitem(sys.modules, "ray", old)
    monkeypatch.setitem(sys.modules, "ray._private", private)
    with pytest.raises(ClusterError, match=r"Ray 2.51.1, which lets anybody in .* pip install \"ray>=2.52\"$"):
        ray_library.import_ray()


def test_a_worker_starts_as_this_comfyui_did_without_its_server_and_browser(monkeypatch):
    given = "main.py --listen 0.0.0.0 --port=80 --cuda-device 0 1 --lowvram --preview-method taesd --auto-launch --fast"
    monkeypatch.setattr(sys, "argv", given.split())
    assert pool._arguments() == ["--lowvram", "--preview-method", "taesd", "--fast"]
