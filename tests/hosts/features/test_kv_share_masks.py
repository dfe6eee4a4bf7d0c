"""The mask of KV sharing on joint and on cross attention: who reads what, where the maps come from, what they cost."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longreel.engine.attention.kv_share import ALIGNED, PREVIOUS, REPLACE
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import patching
from longreel.hosts.families.sites import CROSS, SELF
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.kv_share import FAST, PAPER, READER, SOURCE, KVShare
from longreel.hosts.prompts import conditioning
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.features.explicit_maps import explicit_map, normalised, text_weights

FAMILIES = ("wan21", "ltxv", "cogvideox10", "hunyuan_video")  # two with cross attention, two with joint
PROMPTS = ("a red cat runs", "the cat sleeps", "one very old cat")
LONG = "the cat that was here before went away and came back again and then it ran off once more to sleep"
SHARING = KVShare(
    mode=FAST,
    source=PREVIOUS,
    source_shot=1,
    shots=(),
    across_cuts=True,
    join=REPLACE,
    placement=ALIGNED,
    strength=1.0,
    share_text=True,
    layers=frozenset({1, 2}),
    start_percent=0.0,
    end_percent=1.0,
    mask=Mask(("cat",), 0.4),
)
EVERYTHING = replace(SHARING, mask=None)


def story(model, prompts=PROMPTS, focus=(), size=64):
    """Three shots in six segments: a blend, then a cut."""
    facts = facts_of(model)
    seconds = facts.temporal_stride / 4  # four latent frames at 16 fps
    shots = tuple(
        Shot(prompt, seconds, transition=transition, focus=focus)
        for prompt, transition in zip(prompts, ("continue", "blend", "cut"), strict=True)
    )
    board = Storyboard(shots=shots, width=size, height=size, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=5, overlap_frames=2, transition_prompts=1)


def sample(loaded, timeline, settings=SHARING, watcher=None, **options):
    model = patching.attach(loaded.model, settings)
    if watcher is not None:
        model = patching.attach(model, watcher)
    with torch.inference_mode():
        positive, negative = conditioning.encode_timeline(loaded.clip, timeline)
    facts = timeline.facts
    latent = torch.zeros(
        1,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )
    model = latent_blend.attach(model, timeline, "triangle")
    return tiny_sampling.sample(model, positive, negative, latent, **{"steps": 1, **options})


def watched(loaded, timeline, settings, **options) -> list[tuple]:
    """(call, what came out) of every attention: the call as the network makes it, before anything is shared."""
    seen = []

    def look(call, next_attention):
        out = next_attention(call.q, call.k, call.v, call.mask)
        seen.append((call, out))
        return out

    sample(loaded, timeline, settings, Watcher(look), **options)
    return seen


def explicit_side(seen, call, now: int, timeline) -> torch.Tensor | None:
    """[video tokens], True in the foreground, of the call's segment: from softmax written out, as it was in the
    positive prompt's latest pass through the same module, over the calls on text before it. `now`, a place in `seen`,
    is the last that is known; None without such a pass."""
    segment, role = call.evaluation.segment, call.evaluation.role

    def of_this_segment(other) -> bool:
        return 0 in other.rows and (other.evaluation.segment, other.evaluation.role) == (segment, role)

    passes = [
        other
        for other, _ in seen[: now + 1]
        if of_this_segment(other) and (other.kind, other.block) == (call.kind, call.block)
    ]
    if not passes:
        return None
    behind = call.kind == SELF  # in a block, text is attended to after the video
    on_text = [
        other
        for other, _ in seen
        if of_this_segment(other)
        and other.kind != SELF
        and other.evaluation.sigma == passes[-1].evaluation.sigma
        and other.block <= call.block - behind
    ]
    found = explicit_map(on_text, text_weights(timeline, timeline.segments[segment], "cat"))
    return (normalised(found, call.forward.grid[0]) >= SHARING.mask.threshold).flatten()


def source_of(seen, place: int, mode: str):
    """The call whose keys and values the reader at `place` reads."""
    call = seen[place][0]
    source = call.evaluation.segment - 1
    role = SOURCE if mode == PAPER or source == 0 else READER
    return next(
        other
        for other, _ in seen
        if (other.kind, other.block, other.rows) == (call.kind, call.block, call.rows)
        and (other.evaluation.segment, other.evaluation.role) == (source, role)
        and other.evaluation.sigma == call.evaluation.sigma
    )


def readers_of(seen) -> list[int]:
    """Places of the calls that read a source behind a mask."""
    return [
        place
        for place, (call, _) in enumerate(seen)
        if call.evaluation.role == READER and call.block in SHARING.layers and call.kind != CROSS
    ]


def attention_within(q, k, v, text: int, target, source) -> torch.Tensor:
    """[B, H, S, D], dense: a video query sees the text and the video keys of its own side, a text query everything."""
    hidden = torch.zeros(q.shape[2], k.shape[2], dtype=torch.bool)
    hidden[text:, text:] = target[:, None] != source[None, :]
    logits = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(hidden, float("-inf"))
    return logits.softmax(dim=-1) @ v


def assert_each_side_reads_its_own_side(seen, timeline, mode) -> int:
    """How many calls had no mask yet."""
    unmasked = 0
    for place in readers_of(seen):
        call, out = seen[place]
        theirs = source_of(seen, place, mode)
        target, source = (explicit_side(seen, one, place, timeline) for one in (call, theirs))
        if target is None:
            unmasked += 1
            target, source = (torch.ones(one.forward.video_tokens, dtype=torch.bool) for one in (call, theirs))
        else:
            assert 0 < target.sum() < len(target) and 0 < source.sum() < len(source)
        expected = attention_within(call.q, theirs.k, theirs.v, call.text_tokens, target, source)
        assert torch.allclose(out, expected, atol=1e-5)
    return unmasked


@pytest.mark.parametrize("mode", [FAST, PAPER])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_side_reads_the_text_and_its_own_side_of_the_source(tiny, name, mode):
    """Both prompts of the guidance by the positive one's maps, which are those of explicit softmax."""
    loaded = tiny(name)
    timeline = story(loaded.model)
    seen = watched(loaded, timeline, replace(SHARING, mode=mode))
    assert {call.rows for call, _ in seen} == {(1, 0)}
    assert len(readers_of(seen)) == len(SHARING.layers) * (len(timeline.segments) - 1)
    assert assert_each_side_reads_its_own_side(seen, timeline, mode) == 0


@pytest.mark.parametrize("mode", [FAST, PAPER])
@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_of_another_length_than_the_negative_share_its_masks_with_it(tiny, name, mode):
    """Core then shows the network one prompt after the other, the positive one first."""
    loaded = tiny(name)
    timeline = story(loaded.model, (LONG, LONG.replace("here", "there"), LONG.replace("sleep", "dream")))
    seen = watched(loaded, timeline, replace(SHARING, mode=mode))
    assert {call.rows for call, _ in seen} == {(0,), (1,)}
    assert assert_each_side_reads_its_own_side(seen, timeline, mode) == 0


@pytest.mark.parametrize("mode", [FAST, PAPER])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_negative_prompt_that_comes_first_takes_the_masks_of_the_step_before(tiny, name, mode, monkeypatch):
    """Where memory is short core shows the network the negative prompt, then the positive one."""
    loaded = tiny(name)
    timeline = story(loaded.model)
    monkeypatch.setattr(type(loaded.model), "get_free_memory", lambda patcher, device: 0)
    seen = watched(loaded, timeline, replace(SHARING, mode=mode), steps=3)
    assert [seen[0][0].rows, seen[-1][0].rows] == [(1,), (0,)]
    assert assert_each_side_reads_its_own_side(seen, timeline, mode) == len(readers_of(seen)) / 2 / 3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_parts_nothing_is_sharing_without_a_mask(tiny, name, threshold):
    """0: all is foreground. 1: a map ends just below it, so all is background."""
    loaded = tiny(name)
    timeline = story(loaded.model)
    unmasked = sample(loaded, timeline, EVERYTHING)
    parted, whole = sample(loaded, timeline), sample(loaded, timeline, replace(SHARING, mask=Mask(("cat",), threshold)))
    assert torch.allclose(whole, unmasked, atol=1e-4)
    assert (parted - unmasked).abs().max() > 10 * (whole - unmasked).abs().max()


def test_a_shots_focus_words_go_before_the_nodes(tiny):
    loaded = tiny("hunyuan_video")
    by_board = replace(SHARING, mask=Mask(("old", "red"), 0.4))  # not in every prompt
    assert torch.equal(
        sample(loaded, story(loaded.model, focus=("cat",)), by_board), sample(loaded, story(loaded.model))
    )


def test_several_words_are_one_map(tiny):
    """In the first block: its map comes before anything is shared, so that explicit sums can be compared."""
    loaded = tiny("cogvideox10")
    prompts = ("a red cat runs", "a red cat sleeps", "one old red cat")
    timeline = story(loaded.model, prompts)
    settings = replace(SHARING, mask=Mask(("red cat",), 0.4), layers=frozenset({0}))
    seen = watched(loaded, timeline, settings)
    for call, out in seen:
        here = call.evaluation.segment
        if call.block or not here:
            continue
        theirs = next(other for other, _ in seen if (other.block, other.evaluation.segment) == (0, here - 1))
        sides = [
            normalised(
                sum(explicit_map([one], text_weights(timeline, timeline.segments[n], word)) for word in ("red", "cat")),
                one.forward.grid[0],
            ).flatten()
            >= 0.4
            for n, one in ((here, call), (here - 1, theirs))
        ]
        assert torch.allclose(out, attention_within(call.q, theirs.k, theirs.v, call.text_tokens, *sides), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_of_different_length_share_behind_masks(tiny, name):
    loaded = tiny(name)
    timeline = story(loaded.model, (LONG, *PROMPTS[1:]))
    watcher = Watcher()
    video, unmasked = sample(loaded, timeline, watcher=watcher, steps=2), sample(loaded, timeline, EVERYTHING, steps=2)
    assert len({call.rows for call in watcher.calls}) > 1
    assert video.isfinite().all() and (video - unmasked).abs().max() > 1e-3


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))])
        return out


@pytest.mark.parametrize("name", ["wan21", "cogvideox10"])
def test_masks_need_no_larger_tensor_than_the_network_and_never_queries_by_keys(tiny, name):
    loaded = tiny(name)
    timeline = story(loaded.model, size=320)
    largest = {}
    for settings in (EVERYTHING, SHARING):
        with Largest() as probe:
            watcher = Watcher()
            sample(loaded, timeline, settings, watcher, cfg=1.0)
        largest[settings] = probe.elements
    tokens = watcher.calls[0].forward.video_tokens
    assert tokens >= 2000
    assert largest[SHARING] <= largest[EVERYTHING] < tokens * tokens
