"""hosts/conditioning.py: each segment hears its shots' prompts, mixed where it stands between two."""

import pytest
import torch

import comfy.conds

from longreel.engine.storyboard import Shot, Storyboard
from longreel.engine.timeline import plan_timeline
from longreel.hosts import conditioning, facts_of
from longreel.hosts.conditioning import NEGATIVE, POSITIVE, ROLE, SHOT, encode_timeline, entries_for, role_of
from tests.tiny_sampling import encode

SHOTS = (Shot("a fox", 2.0), Shot("a ship", 2.0, "blend", negative="fog"), Shot("a fox", 2.0, "cut", negative=""))


@pytest.fixture
def timeline(tiny):
    board = Storyboard(SHOTS, width=64, height=64, style="ink", negative="blurry")
    return plan_timeline(board, facts_of(tiny("wan21").model), segment_frames=5)


class CountingClip:
    """The clip, and how many texts it was asked to encode."""

    def __init__(self, clip):
        self.clip, self.texts = clip, []

    def tokenize(self, text):
        self.texts.append(text)
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        return self.clip.encode_from_tokens_scheduled(tokens)


def entry(shot, text, **keys):
    """A processed cond entry, as core hands it to a context handler."""
    return {"model_conds": {"c_crossattn": comfy.conds.CONDRegular(text)}, **({SHOT: shot, ROLE: POSITIVE} if shot is not None else {}),
            **keys}


def heard(entries):
    return [one["model_conds"]["c_crossattn"].cond for one in entries]


def test_each_shot_has_its_prompt_with_the_style_and_its_negative(tiny, timeline):
    with torch.inference_mode():
        positive, negative = encode_timeline(tiny("wan21").clip, timeline)
    clip = tiny("wan21").clip
    for entries, texts, role in ((positive, ["a fox, ink", "a ship, ink", "a fox, ink"], POSITIVE),
                                 (negative, ["blurry", "fog", ""], NEGATIVE)):
        assert [(keys[SHOT], keys[ROLE]) for _, keys in entries] == [(i, role) for i in range(3)]
        for (tensor, _), text in zip(entries, texts):
            assert torch.equal(tensor, encode(clip, text)[0][0])


def test_equal_texts_are_encoded_once(tiny, timeline):
    clip = CountingClip(tiny("wan21").clip)
    with torch.inference_mode():
        encode_timeline(clip, timeline)
    assert sorted(clip.texts) == ["", "a fox, ink", "a ship, ink", "blurry", "fog"]


def test_a_segment_of_one_shot_hears_that_shots_entries_alone():
    texts = [torch.full((1, 4, 2), float(k)) for k in range(3)]
    conds = [entry(k, text) for k, text in enumerate(texts)]
    assert heard(entries_for(conds, ((1, 1.0),))) == [texts[1]]


def test_a_segment_between_two_shots_hears_the_weighted_sum():
    conds = [entry(0, torch.zeros(1, 4, 2)), entry(1, torch.ones(1, 6, 2))]
    (mixed,) = heard(entries_for(conds, ((0, 0.75), (1, 0.25))))
    torch.testing.assert_close(mixed, torch.full((1, 6, 2), 0.25))


def test_entries_without_a_shot_are_heard_in_every_segment():
    common, own = entry(None, torch.ones(1, 4, 2)), [entry(k, torch.zeros(1, 4, 2)) for k in range(2)]
    assert entries_for([common, *own], ((1, 1.0),)) == [common, own[1]]
    assert entries_for([common], ((1, 1.0),)) == [common]


def test_what_is_no_tensor_stays_as_the_first_shot_has_it():
    conds = [entry(k, torch.full((1, 4, 2), float(k))) for k in range(2)]
    for k, cond in enumerate(conds):
        cond["model_conds"]["frame_rate"] = comfy.conds.CONDConstant(25 + k)
        cond["start_percent"] = 0.5
    (mixed,) = entries_for(conds, ((0, 0.5), (1, 0.5)))
    assert mixed["model_conds"]["frame_rate"].cond == 25 and mixed["start_percent"] == 0.5
    assert conds[0]["model_conds"]["c_crossattn"].cond.eq(0).all()  # the shots' own entries are untouched


def test_a_missing_shot_is_refused_by_its_number():
    conds = [entry(0, torch.zeros(1, 4, 2))]
    for mix in (((2, 1.0),), ((0, 0.5), (2, 0.5))):
        with pytest.raises(ValueError, match="^no prompt for shot 3 in a conditioning of 1 entries; wire the output of"):
            entries_for(conds, mix)


def test_shots_with_unequally_many_entries_are_not_mixed():
    conds = [entry(0, torch.zeros(1, 4, 2)), entry(1, torch.zeros(1, 4, 2)), entry(1, torch.ones(1, 4, 2))]
    assert len(entries_for(conds, ((1, 1.0),))) == 2
    with pytest.raises(ValueError, match=r"neighbouring shots have \[1, 2\] conditioning entries and cannot be mixed"):
        entries_for(conds, ((0, 0.5), (1, 0.5)))


def test_the_role_is_that_of_longreel_encode_or_none():
    assert role_of([entry(0, torch.zeros(1)), entry(None, torch.zeros(1))]) == POSITIVE
    assert role_of([entry(None, torch.zeros(1))]) is None and role_of(None) is None and role_of([]) is None


def test_a_model_without_a_text_encoder_is_told_where_to_get_one(timeline):
    with pytest.raises(ValueError, match="0 text encoders.*1"):
        conditioning.encode_timeline(None, timeline)
