"""Every node of a bundled graph says where it is from, in the words that ComfyUI's editor reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longreel import dev
from tests import pack_identity


@pytest.mark.parametrize("path", pack_identity.graphs(), ids=lambda path: path.stem)
def test_every_node_of_a_bundled_graph_names_its_pack(path: Path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    wrong = [
        (node["id"], node["type"])
        for node in pack_identity.nodes_of(workflow)
        if {key: node["properties"].get(key) for key in pack_identity.identity_of(node["type"])}
        != pack_identity.identity_of(node["type"])
    ]
    assert wrong == [], "run python -m tests.pack_identity"


def test_the_editor_writes_the_pack_and_release_of_pyproject():
    script = (dev.ROOT / "web" / "js" / "pack_identity.js").read_text(encoding="utf-8")
    written = dict(re.findall(r'^const (PACK|VERSION) = "(.+)";', script, re.MULTILINE))
    assert written == {"PACK": pack_identity.pack()["cnr_id"], "VERSION": pack_identity.pack()["ver"]}
