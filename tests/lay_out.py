"""Lays the bundled graphs of the demo model out: coloured groups, notes first, and no wire under a node's feet.

    python -m tests.lay_out [NAME ...]     lays the workflow NAME out anew, all of the demo model without a name

The note to read first stands at the top left and the other below it; right of them come the groups of
tests/ready_workflows/graph.py, from the loaders to the video, in rows where one would be wider than two screens.
Inside a group a node stands one column right of what it is wired to. Opened, a graph shows its beginning at a size that
can be read. A graph is edited in ComfyUI's editor, saved here, and laid out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from tests.bundled_workflows import PATHS
from tests.pack_identity import stamp
from tests.ready_workflows.graph import COLOURS, GAP, TITLE

GROUPS = {name: COLOURS[name] for name in ("Model", "Story", "Sampling")} | {
    "Training": "#6b4fa0", "Video": COLOURS["Video"],
}  # fmt: skip
FIRST = "What happens here"  # title of the note to read first
NOTE_WIDTH = 560
WIDEST = 2700  # pixels of a row of groups
TALLEST = 1150  # of a column
LEAST = {  # width and height of what grows when it runs: a preview, a plan; and of the storyboard's editor
    "LongreelStoryboard": (560, 500), "LongreelPlan": (420, 640), "LongreelSampler": (320, 680),
    "LongreelTTTSampler": (320, 600), "LongreelRefine": (340, 680), "KSampler": (300, 560),
    "LongreelReport": (540, 640), "LongreelCompare": (460, 780),
    "LongreelDecodeToVideo": (380, 600),
}  # fmt: skip
OPENS_AT = 0.8  # share of the true size
MODEL = {"LongreelDemoModel", "CLIPLoader", "LongreelLoadTTT", "LongreelApplyTTT", "LongreelLoadAnchorLoRA"} | {
    "LongreelKVShare", "LongreelShortMemory", "LongreelLongMemory", "LongreelLoadMemory",
}  # fmt: skip
STORY = {"LongreelStoryboard", "LongreelPlan", "LongreelEncode", "PrimitiveStringMultiline", "StringConcatenate"} | {
    "TextGenerate", "CLIPTextEncode", "EmptyImage", "ImageCompositeMasked",
}  # fmt: skip
TRAINING = {"LongreelTTTDataset", "LongreelTrainTTT", "LongreelSaveTTT"}
VIDEO = {"VAEDecode", "ImageStitch", "CreateVideo", "SaveVideo", "LongreelDecodeToVideo"} | {
    "LongreelReport", "LongreelCompare",
}  # fmt: skip


def sources(workflow: dict) -> dict[int, list[int]]:
    """Return for every node the nodes that it is wired to, upstream."""
    found: dict[int, list[int]] = {node["id"]: [] for node in workflow["nodes"]}
    for _, source, _, target, *_ in workflow["links"]:
        found[target].append(source)
    return found


def group_of(node: dict, above: dict[int, list[int]], by_id: dict[int, dict], seen: dict[int, str]) -> str:
    """Return a node's group; what shows or changes something stands with what it shows, or behind it."""
    if node["id"] in seen:
        return seen[node["id"]]
    kind = node["type"]
    before = [group_of(by_id[source], above, by_id, seen) for source in above[node["id"]]]
    if kind in MODEL:
        group = "Model" if set(before) <= {"Model"} else "Sampling"
    elif kind in STORY:
        group = "Story" if set(before) <= {"Model", "Story"} else "Sampling"
    elif kind in TRAINING:
        group = "Training"
    elif kind in VIDEO:
        group = "Video"
    elif kind in ("PreviewAny", "PreviewImage"):
        group = before[0]
    else:
        group = "Sampling"
    seen[node["id"]] = group
    return group


def depths(inside: list[dict], above: dict[int, list[int]]) -> dict[int, int]:
    """Return for the nodes of a group how many of its nodes stand before each."""
    ids, depth = {node["id"] for node in inside}, {}

    def of(number: int) -> int:
        if number not in depth:
            depth[number] = max((of(source) + 1 for source in above[number] if source in ids), default=0)
        return depth[number]

    for number in ids:
        of(number)
    return depth


def columns(inside: list[dict], above: dict[int, list[int]]) -> Iterator[list[dict]]:
    """Yield a group's columns, each at most TALLEST, its nodes in the order of their numbers."""
    depth, column, height, last = depths(inside, above), [], 0.0, None
    for node in sorted(inside, key=lambda node: (depth[node["id"]], node["id"])):
        tall = node["size"][1] + GAP + TITLE
        follows = any(source in [other["id"] for other in column] for source in above[node["id"]])
        narrow = depth[node["id"]] == last or not follows or node["size"][0] < 300
        if column and (height + tall > TALLEST or not narrow):
            yield column
            column, height = [], 0.0
        column.append(node)
        height, last = height + tall, depth[node["id"]]
    if column:
        yield column


def overlap(one: tuple, other: tuple) -> bool:
    """Return whether two boxes (left, top, width, height) share a point."""
    return all(one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


def stack(nodes: list[dict], left: float, top: float) -> float:
    """Put nodes below each other and return the right edge."""
    for node in nodes:
        node["pos"] = [round(left), round(top)]
        top += node["size"][1] + GAP + TITLE
    return left + max(node["size"][0] for node in nodes)


def lay_out(workflow: dict) -> dict:
    """Place all nodes of a graph anew, draw its groups, and return it."""
    by_id, above, seen = {node["id"]: node for node in workflow["nodes"]}, sources(workflow), {}
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    for note in notes:
        note["size"] = [NOTE_WIDTH, note["size"][1]]
    for node in workflow["nodes"]:
        node["size"] = [max(pair) for pair in zip(node["size"], LEAST.get(node["type"], (0, 0)), strict=True)]
    inside: dict[str, list[dict]] = {name: [] for name in GROUPS}
    for node in workflow["nodes"]:
        if node not in notes:
            inside[group_of(node, above, by_id, seen)].append(node)
    right = stack(sorted(notes, key=lambda node: node.get("title") != FIRST), 0, 0)
    start, left, top, bottom = right + 2 * GAP, right + 2 * GAP, 0.0, 0.0
    groups, before = [], (0.0, 0.0, 0.0)  # left, right and bottom of the group before
    above_title = TITLE + 1.5 * GAP
    for number, (name, colour) in enumerate(GROUPS.items(), 1):
        drawn = list(columns(inside[name], above))
        if not drawn:
            continue
        width = sum(max(node["size"][0] for node in column) + GAP for column in drawn)
        height = max(sum(node["size"][1] + GAP + TITLE for node in column) for column in drawn)
        under = before[2] + 4 * GAP
        if groups and width <= 1.2 * (before[1] - before[0]) and under + height <= bottom + 18 * GAP:
            left, here = before[0], under  # a small one fits under its neighbour
        else:
            if left > start and left + width > start + WIDEST:
                left, top = start, bottom + 4 * GAP
            here = top
        began = left
        for column in drawn:
            left = stack(column, left, here) + GAP
        last = max(node["pos"][1] + node["size"][1] for column in drawn for node in column)
        groups.append({
            "id": number, "title": name, "color": colour, "font_size": 24, "flags": {},
            "bounding": [began - GAP / 2, here - above_title, left - began, last - here + above_title + GAP / 2],
        })  # fmt: skip
        before = (began, max(left, before[1]) if here != top else left, last)
        bottom, left = max(bottom, last), before[1] + GAP
    workflow["groups"] = groups
    workflow["extra"] = {**workflow.get("extra", {}), "ds": {"scale": OPENS_AT, "offset": [80, 140]}}
    return workflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows, without .json")
    names = parser.parse_args().names
    for path in PATHS:
        if not names or path.stem in names:
            workflow = stamp(lay_out(json.loads(path.read_text(encoding="utf-8"))))
            path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
