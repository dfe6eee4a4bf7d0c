"""Make what a bare machine lacks into two archives in .gpu, on a machine with a package index.

    python dev.py gpu --pack [--python 3.12]

comfyui.tar.xz is ComfyUI's source without its tests and web pages. site-<Python>.tar.xz holds the packages of ComfyUI's
requirements that the borrowed GPU machine's image does not (docs/measured/README.md), as wheels unpacked. Two things
are left out to stay within the 64 MiB that may travel: PyAV (35 MB), and comfy_kitchen's compiled kernels (170 MB
unpacked), without which it computes with torch.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from .machine_setup import COMFYUI_ARCHIVE, PACKED, ROOT, find_comfyui

FOLDERS = (
    "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "app", "api_server",
    "middleware", "utils",
)  # fmt: skip
WITH_NEEDS = ("pydantic~=2.0", "pydantic-settings~=2.0", "alembic", "SQLAlchemy>=2.0.0", "simpleeval", "blake3")
ALONE = ("torchsde", "trampoline", "comfy-kitchen", "comfy-aimdo")  # torch is there, and they would bring another
PINNED = ("comfy-kitchen", "comfy-aimdo")  # as ComfyUI's requirements pin them
GLIBC = ("2_39", "2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12")
LARGEST_LIBRARY = 16 * 2**20  # bytes of a compiled file that travels


def pack(python: str) -> list[Path]:
    """Write both archives for a Python such as "3.12" and return their paths.

    Raises FileNotFoundError without a ComfyUI, and RuntimeError with pip's last words where it fails.
    """
    PACKED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="longreel-pack-") as folder:
        comfyui = find_comfyui(Path(folder))
        if comfyui is None:
            raise FileNotFoundError(f"no ComfyUI in {ROOT / '.comfyui'}; run `python dev.py setup`")
        with tarfile.open(COMFYUI_ARCHIVE, "w:xz") as tar:
            for path in [*sorted(comfyui.glob("*.py")), *(comfyui / name for name in FOLDERS)]:
                tar.add(path, path.name, filter=without_caches)
        site = PACKED / f"site-{python}.tar.xz"
        wheels = Path(folder, "wheels")
        wheels.mkdir()
        download(wheels, python, WITH_NEEDS)
        requirements = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
        pins = {line.split("==")[0]: line for line in requirements}
        download(wheels, python, [pins[name] if name in PINNED else name for name in ALONE], "--no-deps")
        unpacked = Path(folder, "site")
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as file:
                file.extractall(unpacked, [i for i in file.infolist() if i.file_size <= LARGEST_LIBRARY])
        with tarfile.open(site, "w:xz") as tar:
            tar.add(unpacked, ".")
    return [COMFYUI_ARCHIVE, site]


def without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave compiled Python out."""
    return None if "__pycache__" in member.name else member


def download(folder: Path, python: str, names: list[str] | tuple[str, ...], *options: str) -> None:
    """Download wheels for 64-bit Linux and a Python."""
    platforms = [f"manylinux_{version}_x86_64" for version in GLIBC] + ["manylinux2014_x86_64", "manylinux2010_x86_64"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(folder), *options]
    command += [word for platform in platforms for word in ("--platform", platform)]
    done = subprocess.run([*command, *names], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError("pip download failed:\n" + "\n".join(done.stderr.splitlines()[-10:]))
