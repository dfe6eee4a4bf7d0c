"""Prompts in ComfyUI's API format for the tests of planning, encoding, blending and sampling, and what they saved."""

import json
import urllib.error
from typing import Any

import torch
from safetensors.torch import load_file

from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyProcess
from tests.tiny_models import TinyModel

Prompt = dict[str, dict[str, Any]]

BOARD = Storyboard(
    (Shot("a red circle moves right", 2.0), Shot("a red circle moves up", 2.0, "blend"), Shot("a star", 2.0, "cut")),
    width=64,
    height=64,
    negative="blurry",
)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def change(prompt: Prompt, name: str, **inputs: Any) -> Prompt:
    """A copy of the prompt in which one node has other inputs."""
    return {**prompt, name: {**prompt[name], "inputs": {**prompt[name]["inputs"], **inputs}}}


def planned(tiny: TinyModel, board: Storyboard | str = BOARD) -> Prompt:
    """Loaders, storyboard, plan and conditioning; segments of five latent frames that share two."""
    stride = tiny.temporal_stride
    return {
        **tiny.prompt_nodes(),
        "board": node("LongreelStoryboard", text=board if isinstance(board, str) else board.to_json()),
        "plan": node(
            "LongreelPlan",
            model=["model", 0],
            storyboard=["board", 0],
            width=0,
            height=0,
            segment_frames=4 * stride + 1,
            overlap_frames=2 * stride,
            transition_prompts=1,
            steps=20,
            guidance=True,
        ),
        "encode": node("LongreelEncode", clip=["clip", 0], timeline=["plan", 0]),
    }


def blended(tiny: TinyModel, board: Storyboard | str = BOARD) -> Prompt:
    """Latent Blend and core's KSampler."""
    return {
        **planned(tiny, board),
        "blend": node(
            "LongreelLatentBlend",
            model=["model", 0],
            timeline=["plan", 0],
            blend="triangle",
            blend_seed=0,
            segment_latent_frames=0,
            overlap_latent_frames=-1,
            transition_prompts=-1,
            lead_frame=True,
        ),
        "sample": node(
            "KSampler",
            model=["blend", 0],
            positive=["encode", 0],
            negative=["encode", 1],
            latent_image=["plan", 1],
            seed=5,
            steps=2,
            cfg=3.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        **saved("sample"),
    }


def custom(tiny: TinyModel, sampler: dict[str, Any], board: Storyboard | str = BOARD) -> Prompt:
    """Latent Blend and core's SamplerCustomAdvanced, with the sampler that the node `sampler` makes."""
    return {
        **blended(tiny, board),
        **schedule(sampler),
        "noise": node("RandomNoise", noise_seed=5),
        "guider": node("CFGGuider", model=["blend", 0], positive=["encode", 0], negative=["encode", 1], cfg=3.0),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["plan", 1],
        ),
    }


def sampled(tiny: TinyModel, sampler: dict[str, Any], board: Storyboard | str = BOARD) -> Prompt:
    """Longreel Sampler, which brings its own blending."""
    return {
        **planned(tiny, board),
        **schedule(sampler),
        "sample": node(
            "LongreelSampler",
            model=["model", 0],
            timeline=["plan", 0],
            positive=["encode", 0],
            negative=["encode", 1],
            latent=["plan", 1],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            seed=5,
            cfg=3.0,
            blend="triangle",
        ),
        **saved("sample"),
    }


def refined(tiny: TinyModel, sampler: dict[str, Any]) -> Prompt:
    """Longreel Refine, with one prompt, on a video that KSampler made without Longreel."""
    return {
        **tiny.prompt_nodes(),
        **schedule(sampler),
        "positive": node("CLIPTextEncode", clip=["clip", 0], text="a red circle moves right"),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text="blurry"),
        "empty": node("EmptyHunyuanLatentVideo", width=64, height=64, length=45, batch_size=1),
        "video": node(
            "KSampler",
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["empty", 0],
            seed=5,
            steps=1,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0),
        "refine": node(
            "LongreelRefine",
            model=["model", 0],
            latent=["video", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            strength=0.5,
            seed=5,
            cfg=3.0,
            blend="x0",
            chunk_latent_frames=5,
            overlap_latent_frames=2,
            cut_range="paper",
            lead_frame=True,
        ),
        **saved("refine"),
    }


def whole(tiny: TinyModel, sampler: dict[str, Any], board: Storyboard | str = BOARD) -> Prompt:
    """Longreel TTT Sampler on the model as it is loaded."""
    return {
        **planned(tiny, board),
        **schedule(sampler),
        "sample": node(
            "LongreelTTTSampler",
            model=["model", 0],
            timeline=["plan", 0],
            positive=["encode", 0],
            negative=["encode", 1],
            latent=["plan", 1],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            seed=5,
            cfg=3.0,
        ),
        **saved("sample"),
    }


def with_new_layers(prompt: Prompt, kind: str = "mlp", layers: str = "all") -> Prompt:
    """A prompt of `whole` with Longreel Apply TTT and untrained layers behind the loader."""
    apply = node(
        "LongreelApplyTTT", **{"model": ["model", 0], "weights": "new", "weights.kind": kind, "layers": layers}
    )
    return change({**prompt, "apply": apply}, "sample", model=["apply", 0])


def with_layers(prompt: Prompt, file: str, chunk: int = 0, strength: float = 1.0, layers: str = "all") -> Prompt:
    """A prompt of `whole` with the layers in a file of models/ttt."""
    apply = node(
        "LongreelApplyTTT",
        **{
            "model": ["model", 0],
            "weights": "trained",
            "weights.ttt": ["load", 0],
            "weights.strength": strength,
            "layers": layers,
        },
    )
    load = node("LongreelLoadTTT", file=file, chunk=chunk)
    return change({**prompt, "load": load, "apply": apply}, "sample", model=["apply", 0])


def shared(prompt: Prompt, **inputs: Any) -> Prompt:
    """A prompt of `blended`, `custom` or `sampled` with Longreel KV Share behind the loader."""
    return change({**prompt, "share": share(**inputs)}, "blend" if "blend" in prompt else "sample", model=["share", 0])


def share(**inputs: Any) -> dict[str, Any]:
    """Longreel KV Share at work in the first of two steps. Inputs that belong to a choice have dotted names, as in
    `**{"source.source_shot": 2}`."""
    return node(
        "LongreelKVShare",
        **{
            "model": ["model", 0],
            "mode": "fast",
            "source": "previous",
            "shots": "",
            "across_cuts": True,
            "join": "replace",
            "placement": "aligned",
            "strength": 1.0,
            "share_text": True,
            "layers": "last 1/6",
            "start_percent": 0.0,
            "end_percent": 0.5,
            "mask": "off",
            **inputs,
        },
    )


def masked(threshold: float = 0.3, words: str = "") -> dict[str, Any]:
    """Inputs of Longreel KV Share that turn its mask on."""
    return {"mask": "words", "mask.words": words, "mask.threshold": threshold}


def schedule(sampler: dict[str, Any]) -> Prompt:
    return {
        "sampler": sampler,
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=2, denoise=1.0),
    }


def saved(name: str, output: int = 0) -> Prompt:
    return {"save": node("SaveLatent", samples=[name, output], filename_prefix="longreel-test")}


EULER = node("KSamplerSelect", sampler_name="euler")
ALPHA_SPACE = {
    "class_type": "LongreelAlphaSpaceSampler",
    "inputs": {"solver": "ddim", "solver.eta": 0.0, "dynamic_guidance": "off"},
}


def latent(server: ComfyProcess, prompt: Prompt) -> torch.Tensor:
    """Run the prompt; the samples that its node "save" wrote, [B, C, F, H, W]."""
    entry = server.run(prompt)["save"]["latents"][0]
    return load_file(server.output_path / entry["subfolder"] / entry["filename"])["latent_tensor"]


def report(server: ComfyProcess, prompt: Prompt) -> str:
    """Run the prompt; the text under its node "plan"."""
    return server.run(prompt)["plan"]["text"][0]


def refusals(server: ComfyProcess, prompt: Prompt) -> list[str]:
    """What POST /prompt objects to, one line each without doubles; nothing when it takes the prompt.

    ComfyUI drops only those outputs that depend on the node it objects to, so the plan may run, but no sampler.
    """
    try:
        answer = server.post("/prompt", {"prompt": prompt})
    except urllib.error.HTTPError as error:
        answer = json.loads(error.read())
    found = [error["details"] for entry in answer["node_errors"].values() for error in entry["errors"]]
    return list(dict.fromkeys(found))
