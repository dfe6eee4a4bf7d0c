"""What ComfyUI writes into a video file: the graph that made it, so that dropping the file on the editor restores it.

Same keys and form as core's Save Video (comfy_extras/nodes_video.py).
"""

import json
from typing import Any

from comfy.cli_args import args


def graph_metadata(prompt: Any, extra_pnginfo: dict[str, Any] | None) -> dict[str, str]:
    """Return the tags of the file: every entry of `extra_pnginfo` (the workflow) and `prompt`, as JSON.

    They are empty when ComfyUI runs with --disable-metadata.
    """
    if args.disable_metadata:
        return {}
    entries = dict(extra_pnginfo or {})
    if prompt is not None:
        entries["prompt"] = prompt
    return {name: json.dumps(value) for name, value in entries.items()}
