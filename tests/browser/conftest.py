"""One Chromium for all browser tests, one fresh page for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from longreel import dev
from tests.browser.editor import LAUNCH_ARGUMENTS, Editor
from tests.comfy_process import ComfyProcess


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with these tests: while playwright runs, its event loop belongs to the whole thread."""
    path = dev.find_chromium()
    if path is None:
        pytest.fail("there is no Chromium; `python dev.py test` provides one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=LAUNCH_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def editor(browser: Browser, comfy: ComfyProcess) -> Iterator[Editor]:
    page = Editor(browser, comfy)
    yield page
    page.close()
