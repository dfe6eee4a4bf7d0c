"""The ComfyUI in which tests/browser has run the bundled workflows: what they made is still there."""

from __future__ import annotations

import pytest

from tests.comfy_process import ComfyProcess


@pytest.fixture(scope="session")
def comfy(remembering_comfy: ComfyProcess) -> ComfyProcess:
    """It runs what it has not seen."""
    return remembering_comfy
