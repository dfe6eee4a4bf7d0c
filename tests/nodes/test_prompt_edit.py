"""nodes/prompt_edit.py in a running ComfyUI: every input matters, every family takes it, bad input is refused."""

import pytest
import torch

from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, EULER, blended, change, custom, latent, node, refusals, sampled
from tests.tiny_models import MODELS

ORIGINAL = Storyboard((Shot("a red circle moves right", 1.0),), width=64, height=64, negative="blurry")
EDITED = Storyboard((Shot("a blue circle moves right", 1.0),), width=64, height=64, negative="blurry")

REWEIGHT = {
    "edit": "reweight",
    "edit.words": "blue",
    "edit.weight": 0.25,
    "edit.form": "after softmax",
    "edit.layers": "all",
    "edit.start_percent": 0.0,
    "edit.end_percent": 1.0,
    "edit.layout_percent": 0.5,
}
SWAP = {"edit": "swap", "edit.layers": "0-1", "edit.start_percent": 0.0, "edit.end_percent": 0.5}


def edited(prompt, inputs, board=ORIGINAL):
    """The prompt with its sampler's model edited; `board` is the original, if any."""
    taken = "sample" if "model" in prompt["sample"]["inputs"] else "guider"
    model = prompt[taken]["inputs"]["model"]
    prompt = {**prompt, "edit": node("LongreelPromptEdit", model=model, **inputs)}
    if board is not None:
        prompt |= {
            "original board": node("LongreelStoryboard", text=board.to_json()),
            "original plan": change(prompt, "plan", storyboard=["original board", 0])["plan"],
            "original": node("LongreelEncode", clip=["clip", 0], timeline=["original plan", 0]),
        }
        prompt = change(prompt, "edit", original=["original", 0])
    return change(prompt, taken, model=["edit", 0])


def of_family(tiny):
    if tiny.family == "cogvideox":
        return custom(tiny, ALPHA_SPACE, EDITED)
    return change(blended(tiny, EDITED), "sample", steps=4)


@pytest.fixture(scope="module")
def plain(tiny_models):
    return of_family(tiny_models["wan21"])


@pytest.fixture(scope="module")
def plain_latent(server, plain):
    return latent(server, plain)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("inputs", [REWEIGHT, SWAP], ids=["reweight", "swap"])
def test_every_family_edits(server, tiny_models, name, inputs):
    prompt = of_family(tiny_models[name])
    video = latent(server, edited(prompt, inputs))
    assert video.isfinite().all() and video.std() > 0
    assert not torch.equal(video, latent(server, prompt))


@pytest.mark.parametrize("name", list(MODELS))
def test_weight_1_without_a_layout_is_the_video_without_the_node_to_the_bit(server, tiny_models, name):
    prompt = of_family(tiny_models[name])
    neutral = {**REWEIGHT, "edit.weight": 1.0, "edit.layout_percent": 0.0}
    assert torch.equal(latent(server, edited(prompt, neutral, None)), latent(server, prompt))


def test_core_without_a_timeline_edits_too(server, tiny_models):
    """Longreel Encode beside the plain model and core's KSampler."""
    prompt = change(of_family(tiny_models["wan21"]), "sample", model=["model", 0])
    prompt.pop("blend")
    assert not torch.equal(latent(server, edited(prompt, SWAP)), latent(server, prompt))


def test_longreel_sampler_edits_as_core_does(server, tiny_models):
    tiny = tiny_models["wan21"]
    ours, core = sampled(tiny, EULER, EDITED), blended(tiny, EDITED)
    for inputs in (REWEIGHT, SWAP):
        assert torch.equal(latent(server, edited(ours, inputs)), latent(server, edited(core, inputs)))


@pytest.mark.parametrize(
    "inputs",
    [
        {"edit.words": "circle"},
        {"edit.words": "blue, circle"},
        {"edit.weight": 2.0},
        {"edit.form": "logits"},
        {"edit.layers": "0"},
        {"edit.start_percent": 0.5},
        {"edit.end_percent": 0.5},
        {"edit.layout_percent": 0.1},
    ],
)
def test_every_input_of_reweight_changes_the_result(server, plain, inputs):
    base = edited(plain, REWEIGHT)
    assert not torch.equal(latent(server, change(base, "edit", **inputs)), latent(server, base))


@pytest.mark.parametrize("inputs", [{"edit.layers": "all"}, {"edit.start_percent": 0.3}, {"edit.end_percent": 0.1}])
def test_every_input_of_swap_changes_the_result(server, plain, inputs):
    base = edited(plain, SWAP)
    assert not torch.equal(latent(server, change(base, "edit", **inputs)), latent(server, base))


@pytest.mark.parametrize("inputs", [REWEIGHT, SWAP], ids=["reweight", "swap"])
def test_the_original_and_the_model_change_the_result(server, plain, tiny_models, inputs):
    base = edited(plain, inputs)
    other = Storyboard((Shot("a tree in the rain", 1.0),), width=64, height=64, negative="blurry")
    model = change(base, "model", **tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"])
    assert not torch.equal(latent(server, edited(plain, inputs, other)), latent(server, base))
    assert not torch.equal(latent(server, model), latent(server, base))


def test_reweighting_without_an_original_copies_the_prompts_own_layout(server, plain):
    assert torch.equal(latent(server, edited(plain, REWEIGHT, None)), latent(server, edited(plain, REWEIGHT, EDITED)))


def test_swapping_a_prompt_for_itself_is_the_video_without_the_node(server, plain, plain_latent):
    assert torch.equal(latent(server, edited(plain, SWAP, EDITED)), plain_latent)


@pytest.mark.parametrize(
    ("inputs", "board", "reason"),
    [
        ({**REWEIGHT, "edit.layout_percent": 0.0}, ORIGINAL, "an original is wired, and with layout_percent 0 none of"),
        (
            {**REWEIGHT, "edit.words": "purple"},
            None,
            '"purple" is in none of the positive prompts; use words of a, blue, circle',
        ),
        ({**REWEIGHT, "edit.words": " , "}, None, "there are no words to reweight"),
        ({**SWAP, "edit.layers": "0-9"}, ORIGINAL, "is not in the network's 4 blocks"),
    ],
)
def test_what_cannot_be_edited_is_refused_by_name(server, plain, inputs, board, reason):
    with pytest.raises(ComfyError, match=reason):
        server.run(edited(plain, inputs, board))


@pytest.mark.parametrize(
    "inputs",
    [{"edit.weight": 11.0}, {"edit.layout_percent": 1.1}, {"edit.start_percent": -0.1}, {"edit.form": "before"}],
)
def test_values_out_of_range_are_refused_before_anything_runs(server, plain, inputs):
    assert refusals(server, change(edited(plain, REWEIGHT), "edit", **inputs))


def test_a_second_edit_is_refused(server, plain):
    twice = edited({**edited(plain, SWAP), "first": edited(plain, SWAP)["edit"]}, SWAP)
    with pytest.raises(ComfyError, match="Longreel Prompt Edit and Longreel Prompt Edit cannot work on one model"):
        server.run(change(twice, "edit", model=["first", 0]))


def test_kv_share_on_the_same_model_is_refused(server, plain):
    share = node(
        "LongreelKVShare",
        model=["blend", 0],
        mode="fast",
        source="previous",
        shots="",
        across_cuts=True,
        join="replace",
        placement="aligned",
        strength=1.0,
        share_text=True,
        layers="last 1/6",
        start_percent=0.0,
        end_percent=1.0,
        mask="off",
    )
    prompt = change({**edited(plain, SWAP), "share": share}, "edit", model=["share", 0])
    with pytest.raises(ComfyError, match="Longreel Prompt Edit and Longreel KV Share cannot work on one model"):
        server.run(prompt)
