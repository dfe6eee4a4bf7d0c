"""hosts/web/route.py in a running ComfyUI: it answers the editor, and nobody else, within bounds."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.comfy_process import ComfyProcess

PATH = "/longreel/storyboard/check"
LONGEST = 12_010_000  # bytes
GOOD = {"text": '[{"prompt": "a", "seconds": 2}]', "plan": {"family": "Wan"}}


def ask(comfy: ComfyProcess, body: bytes, **headers: str) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    request = urllib.request.Request(comfy.url + PATH, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}


def test_it_answers_with_the_plan_and_with_every_mistake(comfy: ComfyProcess):
    status, answer = ask(comfy, json.dumps(GOOD).encode())
    assert status == 200 and answer["plan"]["pixel_frames"] == 33 and answer["mistakes"] == []
    status, answer = ask(comfy, json.dumps({"text": '[{"prompt": "", "seconds": 0}]'}).encode())
    assert status == 200 and [one["path"][-1] for one in answer["mistakes"]] == ["prompt", "seconds"]


def test_the_editors_own_address_and_that_of_the_api_both_answer(comfy: ComfyProcess):
    assert comfy.post("/api" + PATH, GOOD)["plan"]["family"] == "Wan"


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}], ids=["origin", "site"]
)
def test_another_origin_is_refused(comfy: ComfyProcess, headers: dict[str, str]):
    assert ask(comfy, json.dumps(GOOD).encode(), **headers)[0] == 403


def test_a_form_of_a_foreign_page_a_flood_and_nonsense_are_refused(comfy: ComfyProcess):
    assert ask(comfy, json.dumps(GOOD).encode(), Content_Type="text/plain")[0] == 415
    assert ask(comfy, b" " * (LONGEST + 1))[0] == 413
    assert ask(comfy, b"[" * 100_000)[0] == 400
    status, answer = ask(comfy, b'{"text": 5}')
    assert status == 400 and "text" in answer["error"]
