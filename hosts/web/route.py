"""Let ComfyUI's server answer the storyboard editor: POST /longreel/storyboard/check, JSON in and JSON out.

ComfyUI refuses requests of other origins before any route is asked (its server's create_origin_only_middleware). This
one also wants JSON by name, which no form of a foreign page can send unasked; reads no more than LONGEST bytes; and
works in a thread, one question at a time, so that the server goes on answering. What is asked is storyboard_check.py.
"""

import asyncio
import json
import sys

from aiohttp import web

from ...engine.storyboard.json_text import MAX_TEXT_CHARACTERS
from .storyboard_check import WrongQuestion, check_storyboard

PATH = "/longreel/storyboard/check"
LONGEST = 3 * MAX_TEXT_CHARACTERS + 10_000  # bytes: the longest text that is read, with room for what JSON escapes
_one_at_a_time = asyncio.Semaphore(1)


def register() -> None:
    """Add the route to the server that runs in this process; nothing happens where none does."""
    server = sys.modules.get("server")
    running = getattr(getattr(server, "PromptServer", None), "instance", None)
    if running is not None:
        running.routes.post(PATH)(answer)


async def answer(request: web.Request) -> web.Response:
    """Return what storyboard_check says of the question in the request's body."""
    if request.content_type != "application/json":
        return _refusal(415, f"the question is {request.content_type}; send application/json")
    body = bytearray()
    async for part in request.content.iter_chunked(2**16):
        body += part
        if len(body) > LONGEST:
            return _refusal(413, f"the question has more than {LONGEST} bytes; send a shorter storyboard")
    try:
        async with _one_at_a_time:
            return web.json_response(await asyncio.to_thread(lambda: check_storyboard(_question(bytes(body)))))
    except WrongQuestion as error:
        return _refusal(400, str(error))


def _question(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongQuestion(f"the question is not JSON ({error}); send an object") from error


def _refusal(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
