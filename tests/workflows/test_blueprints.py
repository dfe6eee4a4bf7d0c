"""Subgraph blueprints: they are as they were built, and a wire leads to and from every socket."""

from __future__ import annotations

import json

import pytest

from tests.blueprints import BLUEPRINTS, FOLDER, INPUT, OUTPUT, build
from tests.comfy_process import ComfyProcess


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_as_it_was_built(name: str, comfy: ComfyProcess):
    file = FOLDER / f"{name}.json"
    assert json.loads(file.read_text(encoding="utf-8")) == build(name, comfy.object_info()), (
        "run python -m tests.blueprints"
    )


def test_every_file_is_a_blueprint_that_comfyui_serves(comfy: ComfyProcess):
    served = {entry["name"] for entry in comfy.get("/global_subgraphs").values() if entry["source"] == "custom_node"}
    assert served == set(BLUEPRINTS) == {path.stem for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_no_socket_leads_nowhere(name: str):
    (subgraph,) = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    links = {link["id"]: link for link in subgraph["links"]}
    assert all(socket["linkIds"] for socket in subgraph["inputs"] + subgraph["outputs"])
    assert all(links[number]["origin_id"] == INPUT for socket in subgraph["inputs"] for number in socket["linkIds"])
    assert all(links[number]["target_id"] == OUTPUT for socket in subgraph["outputs"] for number in socket["linkIds"])
