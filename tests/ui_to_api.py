"""Turn a workflow as the editor saves it (UI format) into a prompt that ComfyUI's /prompt accepts (API format).

ComfyUI does this in the browser only; no route of its server offers it. Everything needed is in /object_info. Muted
nodes are left out, bypassed ones are wired through, reroutes and primitives are resolved, notes are ignored. Not known:
subgraphs and widgets that grow at run time (Autogrow); both are refused by name. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOTES = {"Note", "MarkdownNote"}
MUTED, BYPASSED = 2, 4
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}


class WorkflowError(ValueError):
    """The workflow cannot be turned into a prompt; names the node and why."""


def inputs_of(definition: dict) -> Iterator[tuple[str, list]]:
    """(name, specification) of every input, required ones first, in the order of the node's definition."""
    order = definition.get("input_order") or {}
    for group in ("required", "optional"):
        inputs = (definition.get("input") or definition).get(group) or {}
        for name in order.get(group) or inputs:
            yield name, inputs[name]


def is_widget(specification: list) -> bool:
    kind = specification[0]
    options = specification[1] if len(specification) > 1 else {}
    if options.get("forceInput") or options.get("socketless") is False:
        return False
    return isinstance(kind, list) or kind in WIDGET_TYPES or kind == DYNAMIC_COMBO


class Converter:
    """One workflow beside the definitions of the server that is to run it."""

    def __init__(self, workflow: dict, object_info: dict):
        if (workflow.get("definitions") or {}).get("subgraphs"):
            raise WorkflowError("the workflow holds subgraphs, which this converter does not know; unpack them first")
        self.definitions = object_info
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.origins = {}  # link id: (node id, output slot)
        for link in workflow["links"]:
            if isinstance(link, dict):
                self.origins[link["id"]] = (link["origin_id"], link["origin_slot"])
            else:
                self.origins[link[0]] = (link[1], link[2])

    def prompt(self) -> dict[str, dict]:
        result = {}
        for node in sorted(self.nodes.values(), key=lambda node: node.get("order", 0)):
            kind = node["type"]
            if kind in NOTES or kind in ("Reroute", "PrimitiveNode") or node.get("mode") in (MUTED, BYPASSED):
                continue
            if kind not in self.definitions:
                raise WorkflowError(f"node {node['id']} is a {kind}, which this ComfyUI does not have")
            title = node.get("title") or self.definitions[kind].get("display_name") or kind
            inputs = self.widget_values(node) | self.linked_values(node)
            result[str(node["id"])] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return result

    def linked_values(self, node: dict) -> dict[str, Any]:
        values = {}
        for entry in node.get("inputs") or []:
            if entry.get("link") is not None:
                source = self.source(entry["link"])
                if source is not None:
                    values[entry["name"]] = source
        return values

    def source(self, link: int) -> Any:
        """What a link brings: [node id, slot] of a real node, a primitive's value, or None from a muted node."""
        node_id, slot = self.origins[link]
        node = self.nodes[node_id]
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node.get("mode") == MUTED:
            return None
        if node["type"] == "Reroute" or node.get("mode") == BYPASSED:
            wanted = node["outputs"][slot]["type"]
            for entry in node.get("inputs") or []:
                fits = node["type"] == "Reroute" or entry["type"] == wanted
                if fits and entry.get("link") is not None:
                    return self.source(entry["link"])
            return None
        return [str(node_id), slot]

    def widget_values(self, node: dict) -> dict[str, Any]:
        """The values of the node's widgets by name. The editor stores them as a bare list in widget order."""
        stored = node.get("widgets_values")
        if isinstance(stored, dict):
            names = {
                name for name, specification in inputs_of(self.definitions[node["type"]]) if is_widget(specification)
            }
            return {name: value for name, value in stored.items() if name.split(".")[0] in names}
        left = list(stored or [])
        return dict(self.take(node, self.definitions[node["type"]], "", left))

    def take(self, node: dict, definition: dict, prefix: str, left: list) -> Iterator[tuple[str, Any]]:
        """Take one value off `left` per widget of a definition; a dynamic combo's key brings further widgets."""
        for name, specification in inputs_of(definition):
            if specification[0] == AUTOGROW and self.grows_widgets(specification):
                raise WorkflowError(
                    f"node {node['id']} ({node['type']}): input {name} grows widgets, "
                    "which this converter does not know"
                )
            if not is_widget(specification):
                continue
            if not left:
                return  # saved before this input existed; the server fills in its default
            value = left.pop(0)
            options = specification[1] if len(specification) > 1 else {}
            yield prefix + name, value
            if specification[0] == DYNAMIC_COMBO:
                for option in options["options"]:
                    if option["key"] == value:
                        yield from self.take(node, option["inputs"], f"{prefix}{name}.", left)
            draws = options.get("control_after_generate") or (
                specification[0] == "INT" and name in ("seed", "noise_seed")
            )
            if draws and left and left[0] in AFTER_GENERATE:
                left.pop(0)
            uploads = any(key.endswith("_upload") and options[key] for key in options)
            if uploads and left and left[0] in ("image", "video", "audio"):
                left.pop(0)

    @staticmethod
    def grows_widgets(specification: list) -> bool:
        template = specification[1].get("template", {}).get("input", {})
        return any(is_widget(inner) for _, inner in inputs_of({"input": template}))


def ui_to_api(workflow: dict, object_info: dict) -> dict[str, dict]:
    """The prompt of a saved workflow, for the server that gave `object_info`.

    Raises:
        WorkflowError: a node is missing on the server, or the workflow uses something this converter does not know.
    """
    return Converter(workflow, object_info).prompt()
