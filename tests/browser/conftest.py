"""One Chromium and one editor page for all browser tests: a page takes five seconds of a processor to open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from longreel import dev
from tests import processes
from tests.browser.editor import LAUNCH_ARGUMENTS, Editor
from tests.comfy_process import ComfyProcess


@pytest.fixture(scope="session")
def comfy(remembering_comfy: ComfyProcess) -> ComfyProcess:
    """The ComfyUI that tests/workflows asks for what the editor ran."""
    return remembering_comfy


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with these tests: while playwright runs, its event loop belongs to the whole thread."""
    path = dev.find_chromium()
    if path is None:
        pytest.fail("there is no Chromium; `python dev.py test` provides one")
    before = processes.started()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=LAUNCH_ARGUMENTS)
        processes.let_last(processes.started() - before)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def page(browser: Browser, comfy: ComfyProcess) -> Iterator[Editor]:
    """The page of all tests; `errors` holds those of opening it until the first test has looked at them."""
    page = Editor(browser, comfy)
    yield page
    page.close()


@pytest.fixture
def editor(page: Editor) -> Iterator[Editor]:
    """The page, whose `errors` are this test's own. Tests open a workflow of their own in it."""
    yield page
    page.errors.clear()
