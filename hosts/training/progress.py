"""What is seen of a training run in the graph: a bar, a line of text under the node, the loss curve as its preview.

Pressing Cancel ends the run at the next report: what is raised is core's own exception, which the trainer lets through
after a checkpoint.
"""

import time
from collections.abc import Callable

from PIL import Image

import comfy.model_management
import comfy.utils

from ..windows.progress import ProgressText

SECONDS_BETWEEN_PICTURES = 5.0
LONGEST_SIDE = 960  # pixels of a preview


class TrainingProgress:
    """total: steps of the run."""

    def __init__(self, total: int):
        self.bar, self.text, self.drawn_at = comfy.utils.ProgressBar(total), ProgressText(), 0.0

    def say(self, text: str) -> None:
        """A line, without a step. Raises core's exception where the user has pressed Cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.text.show(text)

    def step(self, done: int, text: str, picture: Callable[[], Image.Image]) -> None:
        """picture: draws the preview, called now and then. Raises as `say` does."""
        now, preview = time.monotonic(), None
        if now - self.drawn_at >= SECONDS_BETWEEN_PICTURES or done == self.bar.total:
            self.drawn_at = now
            preview = ("JPEG", picture(), LONGEST_SIDE)
        self.bar.update_absolute(done, preview=preview)
        self.say(text)
