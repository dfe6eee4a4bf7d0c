"""Write a workflow as ComfyUI's editor saves it, from nodes that are named as in a prompt.

Widgets, sockets and their order come from a server's /object_info, the counterpart of tests/ui_to_api.py. Nodes stand
in the columns of coloured groups, one below the other, so that none overlaps and wires run from left to right; a second
row of groups keeps the whole narrow enough to be read when it fills the screen.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.pack_identity import stamp
from tests.ui_to_api import AUTOGROW, DYNAMIC_COMBO, inputs_of, is_widget

COLOURS = {"Model": "#3f789e", "Story": "#8a6d3b", "Sampling": "#5b8a3b", "Video": "#8a3b6d"}
WIDTH = 330  # pixels of a node
SOCKET, WIDGET, TITLE, BELOW, GAP = 20, 24, 30, 12, 30  # heights in a node, of its title bar and end, and between nodes
PICTURE = 280  # of a preview in a node


@dataclass(frozen=True)
class Wire:
    """An output of a node, to be given as an input of another."""

    node: int
    slot: int
    kind: str


@dataclass
class Node:
    """A node that stands in the graph; its outputs by number or by name."""

    number: int
    definition: dict
    body: dict[str, Any]

    def out(self, output: int | str = 0) -> Wire:
        names = self.definition.get("output_name") or self.definition["output"]
        slot = output if isinstance(output, int) else names.index(output)
        return Wire(self.number, slot, self.definition["output"][slot])


@dataclass
class Column:
    """A column of a group, and where the next node goes."""

    group: str
    x: float
    y: float
    nodes: list[Node] = field(default_factory=list)


class Graph:
    """A workflow that grows node by node; `object_info` is a server's."""

    def __init__(self, object_info: dict[str, dict]):
        self.definitions = object_info
        self.nodes: list[Node] = []
        self.links: list[list] = []
        self.columns: list[Column] = []
        self.top = 0.0  # of the row of groups

    def column(self, group: str, *, below: str = "") -> None:
        """Begin a new column of a group, right of the last one; or a new row of groups, under the group `below`."""
        if below:
            left, _, _, bottom = self._edges(below)
            self.top = bottom + 4 * GAP
            self.columns.append(Column(group, left, self.top))
            return
        last = self.columns[-1] if self.columns else None
        right = max(node.body["pos"][0] + node.body["size"][0] for node in last.nodes) if last else -2 * GAP
        gap = GAP if last and last.group == group else 2 * GAP
        self.columns.append(Column(group, right + gap, self.top))

    def add(self, kind: str, *, title: str = "", wide: int = WIDTH, tall: int = 0, models=(), **inputs) -> Node:
        """Put a node below the last one of the column.

        inputs: Wires, and values of widgets by name, with a double underscore for the dot of a dynamic choice's own
        widgets; what is missing has its default. models: the files that the node loads (files.ModelFile). wide, tall:
        pixels, where widgets do not say it. Raises KeyError for an input that the node does not have.
        """
        definition, left = self.definitions[kind], {name.replace("__", "."): value for name, value in inputs.items()}
        number = len(self.nodes) + 1
        sockets, widgets = [], []
        for name, specification, shown in _walk(definition, "", dict(left)):
            value = left.pop(name, None)
            if shown:
                widgets += _stored(name, specification, value)
            if isinstance(value, Wire):
                socket = {
                    "name": name,
                    "type": _kind(specification, value),
                    "link": self._link(value, number, len(sockets)),
                }
                sockets.append({**socket, "widget": {"name": name}} if shown else socket)
            elif not shown:
                sockets.append({"name": name, "type": _kind(specification, None), "link": None})
        if left:
            raise KeyError(f"{kind} has no input {', '.join(left)}")
        of_sockets = SOCKET * max(len(sockets), len(definition["output"]))
        body = {
            "id": number, "type": kind,
            "pos": [self.columns[-1].x, self.columns[-1].y],
            "size": [wide, tall or of_sockets + WIDGET * len(widgets) + BELOW],
            "flags": {}, "order": number - 1, "mode": 0,
            "inputs": sockets,
            "outputs": [
                {"name": name, "type": of_output, "links": [], "slot_index": slot}
                for slot, (name, of_output) in enumerate(
                    zip(definition.get("output_name") or definition["output"], definition["output"], strict=True)
                )
            ],
            "properties": {"Node name for S&R": kind},
            "widgets_values": widgets,
        }  # fmt: skip
        if title:
            body["title"] = title
        if models:
            body["properties"]["models"] = [model.as_property() for model in models]
        return self._stand(Node(number, definition, body))

    def note(self, text: str, *, wide: int, tall: int) -> None:
        """Put a note in the column."""
        number = len(self.nodes) + 1
        self._stand(Node(number, {"output": []}, {
            "id": number, "type": "MarkdownNote", "pos": [self.columns[-1].x, self.columns[-1].y],
            "size": [wide, tall], "flags": {}, "order": number - 1, "mode": 0, "inputs": [], "outputs": [],
            "title": "Read me", "properties": {}, "widgets_values": [text], "color": "#432", "bgcolor": "#653",
        }))  # fmt: skip

    def as_json(self, name: str) -> dict:
        """Return the workflow; `name` makes its id, which must not change when it is made anew."""
        by_number = {node.number: node for node in self.nodes}
        for link in self.links:
            by_number[link[1]].body["outputs"][link[2]]["links"].append(link[0])
        workflow = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"longreel/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": [node.body for node in self.nodes],
            "links": self.links,
            "groups": list(self._groups()),
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
            "version": 0.4,
        }
        return stamp(workflow)

    def _stand(self, node: Node) -> Node:
        column = self.columns[-1]
        column.nodes.append(node)
        column.y += node.body["size"][1] + GAP + TITLE
        self.nodes.append(node)
        return node

    def _link(self, wire: Wire, target: int, slot: int) -> int:
        self.links.append([len(self.links) + 1, wire.node, wire.slot, target, slot, wire.kind])
        return len(self.links)

    def _edges(self, group: str) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of a group's nodes, without their title bars."""
        bodies = [node.body for column in self.columns if column.group == group for node in column.nodes]
        left, top = (min(body["pos"][axis] for body in bodies) for axis in (0, 1))
        right, bottom = (max(body["pos"][axis] + body["size"][axis] for body in bodies) for axis in (0, 1))
        return left, top, right, bottom

    def _groups(self) -> Iterator[dict]:
        for number, (name, colour) in enumerate(COLOURS.items(), 1):
            left, top, right, bottom = self._edges(name)
            above = TITLE + 1.5 * GAP
            yield {
                "id": number, "title": name, "color": colour, "font_size": 24, "flags": {},
                "bounding": [left - GAP / 2, top - above, right - left + GAP, bottom - top + above + GAP / 2],
            }  # fmt: skip


def _walk(definition: dict, prefix: str, given: dict[str, Any]) -> Iterator[tuple[str, list, bool]]:
    """Yield name, specification and whether it is a widget of every input; chosen options bring their own."""
    for name, specification in inputs_of(definition):
        if specification[0] == AUTOGROW:
            raise KeyError(f"input {name} grows, which this writer does not know")
        yield prefix + name, specification, is_widget(specification)
        if specification[0] == DYNAMIC_COMBO:
            options = specification[1]["options"]
            chosen = given.get(prefix + name, options[0]["key"])
            (option,) = [option for option in options if option["key"] == chosen]
            yield from _walk(option["inputs"], f"{prefix}{name}.", given)


def _stored(name: str, specification: list, value: Any) -> list:
    """Return what the editor stores for a widget."""
    kind, options = specification[0], specification[1] if len(specification) > 1 else {}
    if value is None or isinstance(value, Wire):
        value = _default(kind, options)
    draws = options.get("control_after_generate") or (kind == "INT" and name in ("seed", "noise_seed"))
    uploads = [word for word in ("image", "video", "audio") if options.get(f"{word}_upload")]
    return [value, *(["fixed"] if draws else []), *(["image"] if uploads else [])]


def _default(kind: Any, options: dict) -> Any:
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options") or [""]
    first = choices[0] if choices else ""
    return first["key"] if isinstance(first, dict) else first


def _kind(specification: list, wire: Wire | None) -> str:
    if isinstance(specification[0], list):
        return "COMBO"
    return wire.kind if wire and specification[0] == "*" else specification[0]
