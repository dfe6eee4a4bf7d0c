"""Writes into the nodes of bundled graphs which pack they are from and which release, as core's templates have it.

    python -m tests.pack_identity     stamps workflows/*.json and subgraphs/*.json anew

The editor reads `cnr_id` and `ver` when a graph is opened where a node is missing, and offers the pack for it. A node
of core's carries the oldest ComfyUI that the pack is tested with, because every bundled graph runs there. Nodes that
live in the editor alone (notes, reroutes), and boxes of subgraphs, have no pack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from longreel import dev

EDITOR_ALONE = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
FOLDERS = (dev.ROOT / "workflows", dev.ROOT / "subgraphs")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def pack() -> dict[str, str]:
    """Return the id and release of pyproject.toml, which is the registry's word for them."""
    text = (dev.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = dict(re.findall(r'^(name|version) = "(.+)"$', text, re.MULTILINE))
    return {"cnr_id": found["name"], "ver": found["version"]}


def identity_of(node_type: str) -> dict[str, str]:
    """Return the properties by which a missing node is found; none for what no pack brings."""
    if node_type in EDITOR_ALONE or _UUID.fullmatch(node_type):
        return {}
    if node_type.startswith("Longreel"):
        return pack()
    return {"cnr_id": "comfy-core", "ver": dev.COMFYUI_OLDEST}


def nodes_of(workflow: dict) -> Iterator[dict]:
    """Yield all nodes of a graph, those inside its subgraphs too."""
    yield from workflow["nodes"]
    for subgraph in (workflow.get("definitions") or {}).get("subgraphs", []):
        yield from subgraph["nodes"]


def stamp(workflow: dict) -> dict:
    """Give every node of a graph its identity, and return the graph."""
    for node in nodes_of(workflow):
        node["properties"] = {**node.get("properties", {}), **identity_of(node["type"])}
    return workflow


def graphs() -> list[Path]:
    """Return all graphs that the pack ships."""
    return sorted(path for folder in FOLDERS for path in folder.glob("*.json"))


def main() -> None:
    for path in graphs():
        workflow = stamp(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
