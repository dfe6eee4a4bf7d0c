"""hosts/anchor/wan.py, cogvideox.py and hunyuan_video.py: each frame is told its own time, and nothing
else changes."""

from functools import partial

import pytest
import torch

from comfy.patcher_extension import WrappersMP

from longreel.hosts.anchor import cogvideox as anchor_cogvideox
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.anchor import hunyuan_video as anchor_hunyuan_video
from longreel.hosts.anchor import wan as anchor_wan
from tests import tiny_sampling
from tests.hosts.anchor_cases import empty, with_anchor
from tests.hosts.memory_cases import shown

ADAPTERS = {
    "wan21": anchor_wan,
    "cogvideox10": anchor_cogvideox,
    "cogvideox15": anchor_cogvideox,
    "hunyuan_video": anchor_hunyuan_video,
}


class OneEvaluation:
    """What core's sampling shows the network once, to be shown again with other times."""

    def __init__(self, loaded, frames=6):
        self.model = loaded.model.model
        self.network = self.model.diffusion_model
        conds = tuple(tiny_sampling.encode(loaded.clip, text) for text in ("a red circle", "blurry"))
        noise = torch.randn(empty(loaded, frames).shape, generator=torch.Generator().manual_seed(2))
        self.given = shown(loaded.model, conds, noise)

    def __call__(self, adapter=None, keep_strengths=None, time=None, **more):
        """The prediction; `keep_strengths` [F] go through the family's adapter, `time` replaces the network's own for
        all."""

        def evaluate(executor, x, t, *args, **kwargs):
            t = t if time is None else torch.full_like(t, time)
            if adapter is None:
                return executor(x, t, *args, **kwargs)
            return adapter.evaluate(executor, keep_strengths.expand(x.shape[0], -1), x, t, *args, **kwargs)

        c = {**self.given["c"], **more}
        options = {**c["transformer_options"], "wrappers": {WrappersMP.DIFFUSION_MODEL: {"test": [evaluate]}}}
        with torch.inference_mode():
            return self.model.apply_model(
                self.given["input"], self.given["timestep"], **{**c, "transformer_options": options}
            )


def only(frame, frames=6, firmly=1.0):
    hold = torch.zeros(1, frames)
    hold[:, frame] = firmly
    return hold


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_a_frame_that_is_not_held_has_the_steps_time(tiny, name):
    once = OneEvaluation(tiny(name))
    adapter = ADAPTERS[name]
    out = once(adapter, only(0, firmly=1e-9))  # a row of its own, at the same time
    assert torch.allclose(out, once(), atol=1e-4)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_time_0_changes_the_prediction_and_a_firmer_hold_changes_it_more(tiny, name):
    once = OneEvaluation(tiny(name))
    adapter, frames = ADAPTERS[name], [0, 1] if name == "cogvideox15" else [0]
    plain = once()
    away = [(once(adapter, only(frames, firmly=h)) - plain).abs().mean() for h in (0.25, 1.0)]
    assert 0 < away[0] != away[1] > 0


@pytest.mark.parametrize("name", ["cogvideox10", "cogvideox15"])
def test_cogvideox_modulates_each_frame_by_its_time_and_text_by_the_steps(tiny, name):
    """What the first block's norm makes depends on the time alone, so frames can be compared with whole runs."""
    once = OneEvaluation(tiny(name))
    patch = once.network.patch_size_t or 1
    frames = [2, 3] if patch == 2 else [2]

    def modulated(run):
        block, seen = once.network.blocks[0], []
        original = block.q.forward
        block.q.forward = lambda x: (seen.append(x.clone()), original(x))[1]
        try:
            run()
        finally:
            del block.q.forward
        return seen[0]  # [B, text + video, C], what attention reads

    plain, zero, held = (
        modulated(run) for run in (once, partial(once, time=0.0), partial(once, anchor_cogvideox, only(frames)))
    )
    text = plain.shape[1] - 6 // patch * 16
    tokens = slice(text + 2 // patch * 16, text + (2 // patch + 1) * 16)  # 4 x 4 tokens a frame
    assert torch.allclose(held[:, tokens], zero[:, tokens], atol=1e-5)
    rest = [i for i in range(plain.shape[1]) if not tokens.start <= i < tokens.stop]
    assert torch.allclose(held[:, rest], plain[:, rest], atol=1e-5)
    assert not torch.allclose(plain[:, tokens], zero[:, tokens], atol=1e-3)


def test_a_token_of_two_latent_frames_is_as_noisy_as_the_less_firmly_held_one(tiny):
    once = OneEvaluation(tiny("cogvideox15"))
    assert torch.allclose(once(anchor_cogvideox, only(0)), once(), atol=1e-4)  # frame 1 is noise
    assert not torch.allclose(once(anchor_cogvideox, only([0, 1])), once(), atol=1e-3)
    odd = OneEvaluation(tiny("cogvideox15"), frames=5)
    assert torch.allclose(odd(anchor_cogvideox, only(4, 5)), odd(), atol=1e-4)  # core fills frame 5 up


def test_hunyuan_video_s_first_frame_is_core_s_own_where_core_s_is_right(tiny):
    """In its single blocks core gives the first text tokens the frame's time; without those both are the same."""
    once = OneEvaluation(tiny("hunyuan_video"))
    single = once.network.single_blocks
    core = {"guiding_frame_index": torch.zeros(2)}
    once.network.single_blocks = torch.nn.ModuleList()
    try:
        assert torch.allclose(once(anchor_hunyuan_video, only(0)), once(**core), atol=1e-4)
    finally:
        once.network.single_blocks = single
    assert not torch.allclose(once(anchor_hunyuan_video, only(0)), once(**core), atol=1e-3)


def test_hunyuan_video_tells_single_blocks_where_the_frame_lies_behind_the_text(tiny):
    once = OneEvaluation(tiny("hunyuan_video"))
    block, told = once.network.single_blocks[0], []
    original = block.forward

    def note(x, vec, modulation_dims, transformer_options, **kwargs):
        told.append((x.shape[1], vec.shape[1], modulation_dims, transformer_options["img_slice"][0]))
        return original(x, vec=vec, modulation_dims=modulation_dims, transformer_options=transformer_options, **kwargs)

    block.forward = note
    try:
        once(anchor_hunyuan_video, only(2))
    finally:
        del block.forward
    ((tokens, rows, stretches, text),) = told
    assert rows == 2 and tokens == text + 6 * 16
    assert stretches == [(0, text, 0), (text, text + 32, 0), (text + 32, text + 48, 1), (text + 48, tokens, 0)]


def test_wan_is_told_a_time_for_each_frame(tiny):
    once = OneEvaluation(tiny("wan21"))
    out = once(anchor_wan, only(3))

    def by_hand(executor, x, t, *args, **kwargs):
        t = t[:, None].repeat(1, 6)
        t[:, 3] = 0
        return executor(x, t, *args, **kwargs)

    c = once.given["c"]
    options = {**c["transformer_options"], "wrappers": {WrappersMP.DIFFUSION_MODEL: {"test": [by_hand]}}}
    with torch.inference_mode():
        expected = once.model.apply_model(
            once.given["input"], once.given["timestep"], **{**c, "transformer_options": options}
        )
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("wan21", {"time_dim_concat": torch.zeros(2, 16, 1, 8, 8)}, "has time_dim_concat, tokens beside the video's"),
        ("wan21", {"context_latents": [torch.zeros(2, 16, 1, 8, 8)]}, "has context_latents, tokens beside"),
        (
            "hunyuan_video",
            {"guiding_frame_index": torch.zeros(2)},
            "has a guiding_frame_index, which shows a known frame in another way",
        ),
        (
            "hunyuan_video",
            {"ref_latent": torch.zeros(2, 16, 1, 8, 8)},
            "has a ref_latent, which shows a known frame in another way",
        ),
    ],
)
def test_tokens_without_a_time_of_their_own_are_refused(tiny, name, more, said):
    once = OneEvaluation(tiny(name))
    with pytest.raises(ValueError, match=said):
        once(ADAPTERS[name], only(0), **more)


def test_networks_that_take_one_time_are_refused_before_sampling(tiny, monkeypatch):
    from comfy.ldm.wan.model import VaceWanModel

    loaded = tiny("wan21")
    monkeypatch.setattr(loaded.model.model.diffusion_model, "__class__", VaceWanModel)
    with pytest.raises(
        ValueError, match="VaceWanModel takes one time for all frames, and a clean anchor needs a time of its own; use"
    ):
        with_anchor(loaded)
    assert anchor_frame.anchors_of(with_anchor(loaded, mode="inpaint"))
    monkeypatch.undo()
    other = tiny("hunyuan_video")
    monkeypatch.setattr(other.model.model.diffusion_model, "time_r_in", torch.nn.Identity())
    with pytest.raises(ValueError, match="reads the begin and the end of each step"):
        with_anchor(other)
