"""Do what is asked of a worker, inside the ComfyUI that it holds (actor.py).

A take is made by queueing its graph as a browser would, so validation, caches and model management are ComfyUI's own,
and a second take finds the models loaded. The graph's last node, LongreelClusterTake, finds here what it is to make and
leaves here what it has made. Nothing is written on the worker's disk.
"""

import asyncio
import io
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

import comfy.model_management
import execution
import nodes
from server import BinaryEventTypes

from ..sampling.rollout_take import TakeOrder
from . import files
from .prompt import TAKE

WAIT_SECONDS = 0.02
PREVIEW_QUALITY = 80


class Making:
    """This is an order: what it asks for, what is finished of it, and how far the next chunk is. `now` is the one of
    this process that is under way, or was last; LongreelClusterTake reads it.
    """

    now: ClassVar["Making | None"] = None

    def __init__(self, order_id: str, node_id: str, order: TakeOrder):
        self.order_id, self.node_id, self.order = order_id, node_id, order
        self.chunks: dict[str, bytes] = {}
        self.text, self.value, self.preview = "", 0, b""

    def keep(self, name: str, data: bytes) -> None:
        self.chunks[name] = data


class Inside:
    """server: ComfyUI's PromptServer, which is not started: what it would send to a browser is kept for `report`."""

    def __init__(self, server: Any):
        self.server = server
        server.send_sync = self._sent
        self.cancelled: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def about(self) -> dict:
        device = comfy.model_management.get_torch_device()
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "device": comfy.model_management.get_torch_device_name(device),
        }

    def stats(self, named: Sequence[Sequence[str]]) -> list:
        return [files.stat_of(one) for one in named]

    def hashes(self, named: Sequence[Sequence[str]]) -> list:
        return [files.sha256_of(one) for one in named]

    def make(self, order: dict) -> dict:
        with self._one_at_a_time:
            Making.now = now = Making(order["id"], order["node_id"], TakeOrder.from_plain(order["take"]))
            error = self._run(order)
            return {"error": error} if error else {"chunks": now.chunks}

    def rest(self) -> None:
        with self._one_at_a_time:
            comfy.model_management.unload_all_models()
            comfy.model_management.soft_empty_cache()

    def report(self, order_id: str, known: Sequence[str]) -> dict:
        now = Making.now
        if now is None or now.order_id != order_id:  # it has not begun yet
            return {"chunks": {}, "text": "", "value": 0, "preview": b""}
        new = {name: data for name, data in list(now.chunks.items()) if name not in known}
        return {"chunks": new, "text": now.text, "value": now.value, "preview": now.preview}

    def cancel(self, order_id: str) -> None:
        self.cancelled.add(order_id)

    def _run(self, order: dict) -> str:
        """Queue the order's graph and wait for its end; return what went wrong, empty for nothing."""
        prompt, prompt_id = order["prompt"], str(uuid.uuid4())
        checked = execution.validate_prompt(prompt_id, prompt, [order["node_id"]])
        valid, error, outputs, node_errors = asyncio.run(checked)
        if not valid or order["node_id"] not in outputs:
            return _refusal(error, node_errors)
        queue = self.server.prompt_queue
        queue.put((0, prompt_id, prompt, {"preview_method": order["preview_method"]}, outputs, {}))
        while prompt_id not in queue.get_history(prompt_id):
            if order["id"] in self.cancelled:
                nodes.interrupt_processing(True)
            time.sleep(WAIT_SECONDS)
        status = queue.get_history(prompt_id)[prompt_id]["status"]
        queue.delete_history_item(prompt_id)
        for event, data in status["messages"]:
            if event == "execution_error":
                node = "Longreel Sampler" if data["node_type"] == TAKE else data["node_type"]
                return f"{node}: {data['exception_message'].strip()}"
            if event == "execution_interrupted":
                return "it was interrupted"
        return ""

    def _sent(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Keep the last text, step and preview of what ComfyUI tells a browser."""
        now = Making.now
        if now is None:
            return
        if event == BinaryEventTypes.TEXT:
            length = int.from_bytes(data[:4], "big")
            now.text = bytes(data[4 + length :]).decode("utf-8", "replace")
        elif event == BinaryEventTypes.UNENCODED_PREVIEW_IMAGE:
            _, picture, size = data
            picture = picture.copy()
            picture.thumbnail((size or 512, size or 512))
            file = io.BytesIO()
            picture.convert("RGB").save(file, "JPEG", quality=PREVIEW_QUALITY)
            now.preview = file.getvalue()
        elif event == "progress" and data["node"] == now.node_id:
            now.value = int(data["value"])


def _refusal(error: dict, node_errors: dict) -> str:
    details = [
        f"node {node} ({about.get('class_type')}): {one.get('message')}: {one.get('details')}"
        for node, about in node_errors.items()
        for one in about.get("errors", ())
    ]
    return "; ".join(details) or f"{(error or {}).get('message')}: {(error or {}).get('details')}"
