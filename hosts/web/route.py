"""Let ComfyUI's server answer the pack's page, JSON in and JSON out: POST /longreel/storyboard/check asks about a text
that is being written (storyboard_check.py), POST /longreel/compare/vote brings votes (compare_vote.py).

ComfyUI refuses requests of other origins before any route is asked (its server's create_origin_only_middleware). These
also want JSON by name, which no form of a foreign page can send unasked; read no more than LONGEST bytes; and work in a
thread, one question at a time, so that the server goes on answering.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ...engine.storyboard.json_text import MAX_TEXT_CHARACTERS
from .compare_vote import take_votes
from .storyboard_check import WrongQuestion, check_storyboard

PATHS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "/longreel/storyboard/check": check_storyboard,
    "/longreel/compare/vote": take_votes,
}
LONGEST = 3 * MAX_TEXT_CHARACTERS + 10_000  # bytes: the longest text that is read, with room for what JSON escapes
_one_at_a_time = asyncio.Semaphore(1)


def register() -> None:
    """Add the routes to the server that runs in this process; nothing happens where none does."""
    server = sys.modules.get("server")
    running = getattr(getattr(server, "PromptServer", None), "instance", None)
    if running is not None:
        for path, answers in PATHS.items():
            running.routes.post(path)(_answer_by(answers))


def _answer_by(answers: Callable[[Any], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _refusal(415, f"the question is {request.content_type}; send application/json")
        body = bytearray()
        async for part in request.content.iter_chunked(2**16):
            body += part
            if len(body) > LONGEST:
                return _refusal(413, f"the question has more than {LONGEST} bytes; send a shorter storyboard")
        try:
            async with _one_at_a_time:
                return web.json_response(await asyncio.to_thread(lambda: answers(_question(bytes(body)))))
        except WrongQuestion as error:
            return _refusal(400, str(error))

    return answer


def _question(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongQuestion(f"the question is not JSON ({error}); send an object") from error


def _refusal(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
