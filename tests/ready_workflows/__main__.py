"""Write the ready workflows anew, as ComfyUI's node definitions say today."""

import json

from tests.bundled_workflows import WORKFLOWS
from tests.comfy_process import ComfyProcess
from tests.ready_workflows.build import GRAPHS
from tests.ready_workflows.cards import card
from tests.ready_workflows.graph import Graph


def build(name: str, object_info: dict) -> dict:
    """Return the workflow of a name, with a server's /object_info."""
    graph = Graph(object_info)
    GRAPHS[name](graph)
    return graph.as_json(name[3:])  # ids are from before names had numbers


def main() -> None:
    with ComfyProcess() as comfy:
        definitions = comfy.object_info()
    for name in GRAPHS:
        workflow = build(name, definitions)
        text = json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"
        (WORKFLOWS / f"{name}.json").write_text(text, encoding="utf-8")
        card(workflow).save(WORKFLOWS / f"{name}.jpg", quality=88)
        print(name)


if __name__ == "__main__":
    main()
