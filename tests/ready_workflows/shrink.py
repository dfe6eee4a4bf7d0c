"""Make a ready workflow's prompt small: the same nodes and wires, at sizes that tiny models sample in seconds."""

import copy
import json

SIDE, SECONDS, SHOTS, SEGMENT_FRAMES, STEPS = 64, 0.9, 2, 17, 2


def shrunk(prompt: dict[str, dict]) -> dict[str, dict]:
    """Return a prompt in API format with a storyboard of SHOTS short shots, short segments and few steps."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "LongreelStoryboard":
            board = json.loads(inputs["text"])
            fps = board["fps"]
            shots = [{**shot, "seconds": SECONDS * 16 / fps} for shot in board["shots"][:SHOTS]]
            inputs["text"] = json.dumps({**board, "width": SIDE, "height": SIDE, "shots": shots})
        elif node["class_type"] == "LongreelPlan":
            inputs["segment_frames"] = SEGMENT_FRAMES
        elif "steps" in inputs:
            inputs["steps"] = STEPS
        elif node["class_type"] == "WanImageToVideo":
            inputs["length"] = SEGMENT_FRAMES
    return prompt
