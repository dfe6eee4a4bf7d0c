"""What all tests share: a ComfyUI process for everything that goes over HTTP, marks, and who runs which test.

Run through `python dev.py test`, or directly with .venv/bin/pytest once `python dev.py setup` has run. `dev.py test`
starts two workers (pytest-xdist), each with a ComfyUI of its own where it needs one. A worker runs whole files, so that
what their tests share is made once, and one of them runs all tests of the bundled workflows.

With --quick, tests that are marked `slow` or that need a ComfyUI process are left out, tests of every family run with
two of the tiny models, and hypothesis tries fewer examples.
"""

from __future__ import annotations

import os

# Before torch is imported: toy tensors gain nothing from a second thread, and lose much when another process wants the
# same core. The processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import hypothesis
import pytest

from longreel import dev
from tests import processes
from tests.comfy_process import PACK_FOLDER_NAME, ComfyProcess
from tests.ready_workflows import stand_ins
from tests.tiny_models import MODELS

# Folders of the bundled workflows. Their ComfyUI remembers what the editor made of them: each runs once.
ONE_AFTER_THE_OTHER = ("tests/browser/", "tests/workflows/")
REMEMBERING = ("--cache-ram", "2", "0")  # GB left free; 0 keeps what other prompts made, which by default is let go
# Folders with files that take long: a worker that begins them last ends last.
LONG = ("tests/kernels/", "tests/nodes/", "tests/training/")
QUICK_EXAMPLES = 10  # of each property, with --quick
QUICK_MODELS = ("wan21", "cogvideox15")  # of tests that run with one tiny model after the other, with --quick


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out tests that are slow or need a ComfyUI process")


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended takes its servers along
    processes.mark_children()
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU; skipped where there is none")
    config.addinivalue_line("markers", "slow: takes seconds of a processor, or starts ComfyUI; --quick leaves it out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not dev.has_nvidia_gpu():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, and nvidia-smi finds none"))
    if config.getoption("quick"):
        leave_out_slow(config, items)
    items.sort(key=lambda item: (not item.nodeid.startswith(ONE_AFTER_THE_OTHER), not item.nodeid.startswith(LONG)))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what the imports made: it lasts, and tests that look for what is left behind
    would search through it, half a second each time."""
    gc.collect()
    gc.freeze()


def shares_comfyui(item: pytest.Item) -> bool:
    return "comfy" in getattr(item, "fixturenames", ())


def another_model(item: pytest.Item) -> bool:
    """Whether a test's parameters name a tiny model that is not among QUICK_MODELS."""
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(value, str) and value in MODELS and value not in QUICK_MODELS for value in given)


def leave_out_slow(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = {item for item in items if shares_comfyui(item) or item.get_closest_marker("slow") or another_model(item)}
    config.hook.pytest_deselected(items=list(slow))
    items[:] = [item for item in items if item not in slow]
    for function in {item.function for item in items if hasattr(getattr(item, "function", None), "hypothesis")}:
        given = getattr(function, "_hypothesis_internal_use_settings", None) or hypothesis.settings.default
        fewer = min(given.max_examples, QUICK_EXAMPLES)
        function._hypothesis_internal_use_settings = hypothesis.settings(given, max_examples=fewer)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give a worker whole files, and all those of ONE_AFTER_THE_OTHER to the same one."""
    from xdist.scheduler import LoadFileScheduling

    class Rooms(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "editor" if nodeid.startswith(ONE_AFTER_THE_OTHER) else super()._split_scope(nodeid)

    return Rooms(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_newgateway() -> None:
    """A worker starts, and this process is the one that hands out the tests."""
    processes.let_last(processes.started())


def pytest_keyboard_interrupt() -> None:
    """Interrupt the workers too: xdist kills them after a while, and then nobody ends what they started."""
    processes.interrupt_lasting()


@pytest.fixture(scope="session", autouse=True)
def no_process_outlives_the_tests() -> Iterator[None]:
    """The first of all fixtures, and so the last to end."""
    yield
    left = processes.left_over(set(), everywhere=True)
    assert not left, "the tests are over, and processes that they started still run:\n" + "\n".join(left)


@pytest.fixture(scope="module", autouse=True)
def no_process_outlives_its_file(no_process_outlives_the_tests: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """What a file's tests and fixtures start, they end; but for the processes that several files share."""
    before = processes.started()
    yield
    left = processes.left_over(before)
    assert not left, f"{request.path.name} is over, and processes that it started still run:\n" + "\n".join(left)


@contextmanager
def lasting_comfyui(*arguments: str, **further) -> Iterator[ComfyProcess]:
    """A ComfyUI with the pack in a folder of an arbitrary name and the test nodes of tests/tiny_nodes, for files that
    follow each other. further: arguments of ComfyProcess."""
    before = processes.started()
    packs = {"tiny_nodes": dev.ROOT / "tests" / "tiny_nodes", **further.pop("packs", {})}
    with ComfyProcess(folder_name=PACK_FOLDER_NAME, packs=packs, arguments=arguments, **further) as process:
        processes.let_last(processes.started() - before)
        yield process


@pytest.fixture(scope="session")
def comfy(no_process_outlives_the_tests: None) -> Iterator[ComfyProcess]:
    """A running ComfyUI, which forgets what a prompt made when the next one is another."""
    with lasting_comfyui() as process:
        yield process


@pytest.fixture(scope="session")
def remembering_comfy(no_process_outlives_the_tests: None) -> Iterator[ComfyProcess]:
    """Another one, which still has what it made of earlier prompts, and stand-ins of the models that the ready
    workflows name: `comfy` of the bundled workflows' tests."""
    with lasting_comfyui(*REMEMBERING, **stand_ins.for_comfyui()) as process:
        stand_ins.write_inputs(process.input_path)
        yield process
