"""nodes/kv_share.py in a running ComfyUI: every input matters, every sampler and family takes it, bad input is
refused."""

from dataclasses import replace

import pytest
import torch

from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError
from tests.nodes.graphs import (
    ALPHA_SPACE,
    EULER,
    blended,
    change,
    custom,
    latent,
    masked,
    node,
    refusals,
    sampled,
    shared,
)
from tests.tiny_models import MODELS

BOARD = Storyboard(
    (
        Shot("a red circle moves right", 2.0),
        Shot("a circle moves up", 2.0, "blend"),
        Shot("a circle stays", 2.0, "cut"),
    ),
    width=64,
    height=64,
    negative="blurry",
)
SINGLE = replace(BOARD, shots=(Shot("a red circle moves right", 4.0),))


@pytest.fixture(scope="module")
def plain(tiny_models):
    """Without KV sharing."""
    return blended(tiny_models["wan21"], BOARD)


@pytest.fixture(scope="module")
def plain_latent(server, plain):
    return latent(server, plain)


@pytest.fixture(scope="module")
def base_latent(server, plain):
    return latent(server, shared(plain))


def of_family(tiny, board=BOARD):
    """Core's sampler for the family, and Longreel Sampler, which should give the same."""
    if tiny.family == "cogvideox":
        return custom(tiny, ALPHA_SPACE, board), sampled(tiny, ALPHA_SPACE, board)
    return blended(tiny, board), change(sampled(tiny, EULER, board), "sample", seed=5)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_family_shares_with_cores_samplers_and_with_longreel_sampler(server, tiny_models, name):
    core, ours = of_family(tiny_models[name])
    one, other, without = latent(server, shared(core)), latent(server, shared(ours)), latent(server, core)
    assert one.isfinite().all() and one.std() > 0
    assert torch.equal(one, other) and not torch.equal(one, without)


@pytest.mark.parametrize("name", list(MODELS))
def test_strength_0_is_the_video_without_the_node_to_the_bit(server, tiny_models, name):
    core, _ = of_family(tiny_models[name])
    assert torch.equal(latent(server, shared(core, strength=0.0, **masked(words="circle"))), latent(server, core))


@pytest.mark.parametrize("name", ["wan21", "cogvideox15", "hunyuan_video", "ltxv"])
def test_the_mask_works_on_every_family(server, tiny_models, name):
    core, _ = of_family(tiny_models[name])
    one, other = latent(server, shared(core, **masked(words="circle"))), latent(server, shared(core))
    assert one.isfinite().all() and not torch.equal(one, other)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_sampler_custom_advanced_gives_the_same_video_as_ksampler(server, tiny_models, guidance):
    tiny, inputs = tiny_models["wan21"], masked(words="circle")
    by_hand = change(shared(custom(tiny, EULER, BOARD), **inputs), "guider", cfg=guidance)
    at_once = change(shared(blended(tiny, BOARD), **inputs), "sample", cfg=guidance)
    assert torch.equal(latent(server, by_hand), latent(server, at_once))


@pytest.mark.parametrize(
    "inputs",
    [
        {"mode": "paper"},
        {"source": "first"},
        {"shots": "2"},
        {"across_cuts": False},
        {"join": "extend"},
        {"placement": "before"},
        {"placement": "true"},
        {"strength": 0.5},
        {"share_text": False},
        {"layers": "1-2"},
        {"start_percent": 0.3},
        {"end_percent": 1.0},
        masked(words="circle"),
    ],
    ids=lambda inputs: next(f"{key}={value}" for key, value in inputs.items()),
)
def test_every_input_changes_the_result(server, plain, base_latent, inputs):
    assert not torch.equal(latent(server, shared(plain, **inputs)), base_latent)


PRESETS = {  # as tests/bench/kv_share.py measures them for the README
    "paper": {
        "mode": "paper", "source": "previous", "join": "replace", "placement": "aligned", "share_text": True,
        "layers": "last 1/6", "start_percent": 0.04, "end_percent": 0.5,
    },
    "same subject in every shot": {
        "mode": "fast", "source": "first", "join": "extend", "placement": "before", "share_text": False,
        "layers": "all", "start_percent": 0.0, "end_percent": 1.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_whatever_else_is_set(server, plain, preset):
    other = {"source": "chosen", "source.source_shot": 2, "layers": "99", "end_percent": 0.0, "strength": 0.3}
    by_hand = latent(server, shared(plain, **PRESETS[preset]))
    assert torch.equal(latent(server, shared(plain, **other, preset=preset)), by_hand)


def test_a_graph_from_before_presets_means_what_it_meant(server, plain, base_latent):
    assert torch.equal(latent(server, shared(plain, preset="custom")), base_latent)


def test_the_model_changes_the_result(server, plain, base_latent, tiny_models):
    other = change(shared(plain), "model", **tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"])
    assert not torch.equal(latent(server, other), base_latent)


def test_a_chosen_shot_1_is_the_first_and_another_one_is_not(server, plain):
    first = latent(server, shared(plain, source="first"))
    one, two = (latent(server, shared(plain, **{"source": "chosen", "source.source_shot": shot})) for shot in (1, 2))
    assert torch.equal(first, one) and not torch.equal(first, two)


def test_words_and_threshold_of_the_mask_change_the_result(server, plain):
    start, *others = (
        latent(server, shared(plain, **masked(*inputs)))
        for inputs in ((0.3, "circle"), (0.3, "a"), (0.3, "a, circle"), (0.6, "circle"))
    )
    assert all(not torch.equal(start, other) for other in others)


def test_a_shots_focus_words_go_before_the_nodes(server, tiny_models):
    board = replace(BOARD, shots=tuple(replace(shot, focus=("circle",)) for shot in BOARD.shots))
    focused = shared(blended(tiny_models["wan21"], board), **masked(words="a"))
    named = shared(blended(tiny_models["wan21"], BOARD), **masked(words="circle"))
    assert torch.equal(latent(server, focused), latent(server, named))


def test_layers_and_shots_mean_the_same_however_they_are_written(server, plain, base_latent):
    assert torch.equal(latent(server, shared(plain, layers="3", shots="2-3, 1")), base_latent)


def test_sharing_begins_where_it_is_said_to(server, plain, plain_latent):
    """Two steps, at 0 and at half of the schedule: between them there is nothing to share."""
    between = latent(server, shared(plain, start_percent=0.1, end_percent=0.4))
    assert torch.equal(between, plain_latent)


def test_only_the_shots_that_read_change(server, plain, plain_latent):
    """Shot 3 is a take of its own, on the last third of the latent frames."""
    video = latent(server, shared(plain, shots="3"))
    changed = (video != plain_latent).flatten(3).any(dim=3).any(dim=1)[0]  # [F]
    cut = len(changed) - changed.sum()
    assert abs(int(cut) - len(changed) * 2 / 3) <= 1 and changed[cut:].all()


def test_a_single_prompt_is_made_long_by_its_own_segments(server, tiny_models):
    single = blended(tiny_models["wan21"], SINGLE)
    without, *videos = (
        latent(server, single),
        *(
            latent(server, shared(single, **inputs))
            for inputs in ({}, {"source": "first"}, {"mode": "paper"}, masked(words="circle"))
        ),
    )
    assert all(video.isfinite().all() and not torch.equal(video, without) for video in videos)
    assert not torch.equal(videos[0], videos[1])


@pytest.mark.parametrize("inputs", [{}, {"mode": "paper"}, masked(words="circle")], ids=["fast", "paper", "mask"])
def test_videos_of_a_batch_share_within_themselves(server, plain, inputs):
    """The first of two has the noise of a batch of one: it must come out the same, whatever the second shows."""
    batch = {**shared(plain, **inputs), "twice": node("RepeatLatentBatch", samples=["plan", 1], amount=2)}
    two = latent(server, change(batch, "sample", latent_image=["twice", 0]))
    first = node("LatentFromBatch", samples=["twice", 0], batch_index=0, length=1)
    alone = latent(server, change({**batch, "first": first}, "sample", latent_image=["first", 0]))
    assert two.shape[0] == 2 and not torch.equal(two[0], two[1])
    assert torch.allclose(two[:1], alone, atol=1e-4)


def refused(server, prompt) -> str:
    """What the failing node says; nothing may have been sampled by then."""
    seen = []
    with pytest.raises(ComfyError) as error:
        server.run(prompt, listen=lambda kind, data: seen.append(kind))
    assert "progress" not in seen
    return str(error.value)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"layers": "9"}, 'layers "9": 9 is not in the network\'s 4 blocks; use 0 to 3'),
        ({"layers": "last 9"}, 'layers "last 9" asks for 9 of 4 blocks; use 1 to 4'),
        ({"source": "chosen", "source.source_shot": 4}, "source_shot 4 is not in a timeline of 3 shots; use 1 to 3"),
        ({"shots": "2, 7"}, "shots 7 is not in a timeline of 3 shots; use 1 to 3"),
        (
            {"source": "chosen", "source.source_shot": 2, "shots": "1"},
            "shot 1 would read from shot 2, which does not come before it; use shots 3 to 3, or an earlier source shot",
        ),
        ({"source": "chosen", "source.source_shot": 3, "shots": "2"}, "shot 2 would read from shot 3, the last one"),
        (
            masked(words="circle, dog"),
            'shot 1: "dog" is not among the 5 words of the prompt; use words of a, red, circle, moves, right',
        ),
        (masked(words="red"), 'shot 2: "red" is not among the 4 words of the prompt; use words of a, circle, moves'),
        (masked(), "shot 1 has no words to look for; name words of its prompt in the node, or as its focus"),
    ],
)
def test_bad_input_is_refused_before_sampling_with_the_remedy(server, plain, inputs, reason):
    assert reason in refused(server, shared(plain, **inputs))


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({"strength": 1.5}, "strength"),
        ({"mode": "slow"}, "mode"),
        ({"preset": "best"}, "preset"),
        ({"end_percent": 1.5}, "end_percent"),
        ({"source": "chosen", "source.source_shot": 0}, "source_shot"),
        (masked(threshold=2.0, words="a"), "threshold"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_runs(server, plain, inputs, name):
    found = refusals(server, shared(plain, **inputs))
    assert found and all(name in line for line in found), found


def test_a_sampler_without_a_timeline_is_refused(server, plain):
    alone = change(shared(plain), "sample", model=["share", 0])
    assert (
        "Longreel KV Share works between the segments of a timeline, and this sampler has no timeline; wire Longreel "
        "Latent "
        "Blend behind it, or use Longreel Sampler"
    ) in refused(server, alone)


def test_a_video_of_one_segment_is_refused(server, tiny_models):
    short = replace(SINGLE, shots=(Shot("a red circle moves right", 1.0),))
    said = refused(server, shared(blended(tiny_models["wan21"], short)))
    assert "none of the 1 segments has a source to read from (1 shots, source previous); use more shots" in said


def test_a_last_shot_that_nothing_follows_cannot_be_the_source(server, tiny_models):
    short = replace(BOARD, shots=(*BOARD.shots[:2], Shot("a circle stays", 0.5, "cut")))
    source = {"source": "chosen", "source.source_shot": 3}
    assert "segments has a source to read from (3 shots, source chosen 3)" in refused(
        server, shared(blended(tiny_models["wan21"], short), **source)
    )


def test_a_second_kv_share_is_refused(server, plain):
    once = shared(plain)
    twice = change({**once, "again": change(once, "share", model=["share", 0])["share"]}, "blend", model=["again", 0])
    assert (
        "Longreel KV Share and Longreel KV Share cannot work on one model: each replaces the keys and values; use "
        "one of the two"
    ) in refused(server, twice)


@pytest.mark.parametrize("order", [("share", "edit"), ("edit", "share")])
def test_prompt_edit_beside_it_is_refused_in_either_order(server, plain, order):
    edit = node(
        "LongreelPromptEdit",
        **{
            "model": ["model", 0],
            "edit": "reweight",
            "edit.words": "circle",
            "edit.weight": 2.0,
            "edit.form": "after softmax",
            "edit.layers": "all",
            "edit.start_percent": 0.0,
            "edit.end_percent": 1.0,
            "edit.layout_percent": 0.0,
        },
    )
    first, second = order
    both = change({**shared(plain), "edit": edit}, second, model=[first, 0])
    said = refused(server, change(both, "blend", model=[second, 0]))
    assert "cannot work on one model: each replaces the keys and values; use one of the two" in said
    assert "Longreel KV Share" in said and "Longreel Prompt Edit" in said


def test_prompts_that_do_not_come_from_longreel_encode_have_no_words_for_a_mask(server, plain):
    text = node("CLIPTextEncode", clip=["clip", 0], text="a circle")
    foreign = change({**shared(plain, **masked(words="circle")), "text": text}, "sample", positive=["text", 0])
    assert "do not come from Longreel Encode, and their words are not known" in refused(server, foreign)


def test_context_windows_inside_the_segments_are_refused(server, plain):
    windows = node(
        "ContextWindowsManual",
        model=["model", 0],
        context_length=3,
        context_overlap=1,
        dim=2,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        freenoise=False,
        cond_retain_index_list="",
        split_conds_to_windows=False,
        latent_retain_index_list="",
        causal_window_fix=True,
    )
    inside = change({**shared(plain), "windows": windows}, "share", model=["windows", 0])
    assert (
        "needs a segment to be seen at once, and another context handler on this model cuts it up; remove the context "
        "windows node"
    ) in refused(server, inside)
