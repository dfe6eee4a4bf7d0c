"""Show a line of text under the running node: "shot 2/3, segment 4/9". Silent when no server runs."""

import time

from comfy_execution.utils import get_executing_context
from server import PromptServer

SHORTEST_PAUSE_SECONDS = 0.1


class ProgressText:
    """Send at most ten lines a second, so that a tiny model is not slowed down by its own report."""

    def __init__(self) -> None:
        self.sent_at = 0.0

    def show(self, text: str) -> None:
        server, context = getattr(PromptServer, "instance", None), get_executing_context()
        now = time.monotonic()
        if server is None or context is None or now - self.sent_at < SHORTEST_PAUSE_SECONDS:
            return
        self.sent_at = now
        server.send_progress_text(text, context.node_id)
