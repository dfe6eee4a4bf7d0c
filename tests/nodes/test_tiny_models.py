"""A real ComfyUI process takes the tiny models and the node that makes their CLIP, and turns a prompt into frames."""

import pytest

from tests.comfy_process import ComfyProcess
from tests.tiny_models import TinyModel

LATENT_FRAMES = 2
# One per text encoder: what differs from the tests in this process is the files' folders and the node TinyClip.
NAMES = ("wan21", "cogvideox15", "hunyuan_video", "ltxv")


def empty_latent(tiny: TinyModel) -> dict:
    """Core's own node for the empty latent of the family, at 64 x 64 pixels."""
    return {
        "class_type": "EmptyLTXVLatentVideo" if tiny.family == "ltxv" else "EmptyHunyuanLatentVideo",
        "inputs": {"width": 64, "height": 64, "length": tiny.pixel_frames(LATENT_FRAMES), "batch_size": 1},
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_becomes_frames_over_http(server: ComfyProcess, tiny_models: dict[str, TinyModel], name: str) -> None:
    tiny = tiny_models[name]
    outputs = server.run(
        {
            **tiny.prompt_nodes(),
            "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "a red fox runs"}},
            "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": ""}},
            "latent": empty_latent(tiny),
            "sample": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["model", 0],
                    "positive": ["positive", 0],
                    "negative": ["negative", 0],
                    "latent_image": ["latent", 0],
                    "seed": 0,
                    "steps": 2,
                    "cfg": 3.0,
                    "sampler_name": "euler",
                    "scheduler": "simple",
                    "denoise": 1.0,
                },
            },
            "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["vae", 0]}},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": tiny.name}},
        }
    )
    assert len(outputs["save"]["images"]) == tiny.pixel_frames(LATENT_FRAMES)
