"""Longreel Demo Model over HTTP: wired to core's nodes, it makes a video; run again, it is not loaded again."""

PROMPT = "a green square moves right on a black background"


def workflow(seed: int) -> dict:
    return {
        "demo": {"class_type": "LongreelDemoModel", "inputs": {}},
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["demo", 1], "text": PROMPT}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["demo", 1], "text": ""}},
        "empty": {
            "class_type": "EmptyHunyuanLatentVideo",
            "inputs": {"width": 64, "height": 64, "length": 5, "batch_size": 1},
        },
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["demo", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["empty", 0],
                "seed": seed,
                "steps": 4,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
            },
        },
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["demo", 2]}},
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }


def test_a_prompt_becomes_frames_and_the_model_loads_once(comfy):
    outputs = comfy.run(workflow(seed=1))
    assert len(outputs["save"]["images"]) == 5
    executed = []
    comfy.run(workflow(seed=2), listen=lambda kind, data: executed.append((kind, data)))
    ran = {data["node"] for kind, data in executed if kind == "executing"}
    assert "sample" in ran
    assert not {"demo", "positive", "negative"} & ran


def test_the_node_has_no_inputs_and_three_outputs(comfy):
    definition = comfy.object_info("LongreelDemoModel")["LongreelDemoModel"]
    assert definition["output"] == ["MODEL", "CLIP", "VAE"]
    assert not definition["input"].get("required") and not definition["input"].get("optional")
