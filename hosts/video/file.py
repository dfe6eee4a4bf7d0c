"""What ComfyUI writes into a video file beside the frames: the graph that made it, so that dropping the file on the
editor restores it, and an AUDIO.

The graph has the same keys and form as in core's Save Video (comfy_extras/nodes_video.py).
"""

import json
from typing import Any

from comfy.cli_args import args

from ...engine.measure.soundtrack import Soundtrack


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


def soundtrack(audio: dict[str, Any]) -> Soundtrack:
    """Return core's AUDIO, {"waveform": [1, C, T], "sample_rate": ...}, as sound for one file.

    Raises ValueError for several sounds in one AUDIO, and as Soundtrack does.
    """
    waveform = audio["waveform"]
    if waveform.ndim != 3 or len(waveform) != 1:
        count = len(waveform) if waveform.ndim == 3 else 0
        raise ValueError(f"the AUDIO holds {count} sounds and a video has 1; wire one")
    return Soundtrack(waveform[0], int(audio["sample_rate"]))
