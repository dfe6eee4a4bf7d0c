"""The converter against the editor itself: the same saved workflow gives the same prompt in both."""

from __future__ import annotations

import pytest

from tests.browser.editor import Editor
from tests.comfy_process import ComfyProcess
from tests.ui_to_api import WorkflowError, ui_to_api

PROMPT = {  # every kind of widget that needs care: seed with a control, upload button, dynamic combo, multi-line text
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "none.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "two\nlines", "clip": ["1", 1]}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32, "batch_size": 2}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 41,
            "steps": 3,
            "cfg": 4.5,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 0.75,
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["2", 0],
            "latent_image": ["3", 0],
        },
    },
    "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
    "6": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "7": {
        "class_type": "ImageScale",
        "inputs": {"image": ["6", 0], "upscale_method": "area", "width": 64, "height": 32, "crop": "center"},
    },
    "8": {"class_type": "ImageBatch", "inputs": {"image1": ["5", 0], "image2": ["7", 0]}},
    "9": {"class_type": "CreateVideo", "inputs": {"images": ["8", 0], "fps": 12.0}},
    "10": {
        "class_type": "SaveVideo",
        "inputs": {
            "video": ["9", 0],
            "filename_prefix": "x",
            "format": "mp4",
            "codec": "h264",
            "codec.encoding": "re-encode",
            "codec.encoding.crf": 19.0,
        },
    },
}


@pytest.fixture
def opened(editor: Editor) -> Editor:
    editor.load_prompt(PROMPT, "converter")
    return editor


def inputs(prompt: dict) -> dict:
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


def test_it_agrees_with_the_editor(opened: Editor, comfy: ComfyProcess):
    expected = inputs(opened.to_prompt())
    assert expected["4"][1]["denoise"] == 0.75 and expected["10"][1]["codec.encoding.crf"] == 19.0
    assert inputs(ui_to_api(opened.serialize(), comfy.object_info())) == expected


@pytest.mark.parametrize(("node_id", "mode"), [(7, 4), (7, 2), (5, 2)], ids=["bypassed", "muted", "muted decoder"])
def test_it_agrees_about_nodes_that_are_switched_off(opened: Editor, comfy: ComfyProcess, node_id: int, mode: int):
    opened.page.evaluate("([id, mode]) => { window.app.graph.getNodeById(id).mode = mode }", [node_id, mode])
    expected = inputs(opened.to_prompt())
    assert str(node_id) not in expected
    assert inputs(ui_to_api(opened.serialize(), comfy.object_info())) == expected


def test_it_agrees_about_reroutes_notes_and_primitives(opened: Editor, comfy: ComfyProcess):
    opened.page.evaluate("""() => {
        const graph = window.app.graph;
        const make = type => { const node = window.LiteGraph.createNode(type); graph.add(node); return node };
        make('Note'); make('MarkdownNote');
        const reroute = make('Reroute'), blend = graph.getNodeById(8), decode = graph.getNodeById(5);
        decode.connect(0, reroute, 0); reroute.connect(0, blend, 0);
        const sampler = graph.getNodeById(4), primitive = make('PrimitiveNode');
        primitive.connect(0, sampler, sampler.inputs.findIndex(i => i.name === 'steps'));
        primitive.widgets[0].value = 17;
    }""")
    expected = inputs(opened.to_prompt())
    assert expected["4"][1]["steps"] == 17 and expected["8"][1]["image1"] == ["5", 0]
    assert inputs(ui_to_api(opened.serialize(), comfy.object_info())) == expected


def test_a_node_that_the_server_lacks_is_named(opened: Editor):
    with pytest.raises(WorkflowError, match="CheckpointLoaderSimple"):
        ui_to_api(opened.serialize(), {})


def test_a_subgraph_is_refused(opened: Editor, comfy: ComfyProcess):
    workflow = {**opened.serialize(), "definitions": {"subgraphs": [{"id": "a"}]}}
    with pytest.raises(WorkflowError, match="subgraph"):
        ui_to_api(workflow, comfy.object_info())
