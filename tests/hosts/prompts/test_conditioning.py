"""hosts/prompts/conditioning.py: each segment hears its shots' prompts, mixed where it stands between two, and the
words of those prompts are found at their tokens."""

import pytest
import torch

import comfy.conds
import comfy.sampler_helpers
import comfy.samplers
import nodes

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.keys import ROLE, SHOT, WORDS
from longreel.hosts.prompts import conditioning
from longreel.hosts.prompts.conditioning import (
    NEGATIVE,
    POSITIVE,
    check_words,
    encode_timeline,
    entries_for,
    role_of,
    word_weights,
)
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
        self.tokenizer, self.cond_stage_model = clip.tokenizer, clip.cond_stage_model

    def tokenize(self, text):
        self.texts.append(text)
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        return self.clip.encode_from_tokens_scheduled(tokens)


def entry(shot, text, **keys):
    """A processed cond entry, as core hands it to a context handler."""
    return {
        "model_conds": {"c_crossattn": comfy.conds.CONDRegular(text)},
        **({SHOT: shot, ROLE: POSITIVE} if shot is not None else {}),
        **keys,
    }


def heard(entries):
    return [one["model_conds"]["c_crossattn"].cond for one in entries]


def test_each_shot_has_its_prompt_with_the_style_and_its_negative(tiny, timeline):
    with torch.inference_mode():
        positive, negative = encode_timeline(tiny("wan21").clip, timeline)
    clip = tiny("wan21").clip
    for entries, texts, role in (
        (positive, ["a fox, ink", "a ship, ink", "a fox, ink"], POSITIVE),
        (negative, ["blurry", "fog", ""], NEGATIVE),
    ):
        assert [(keys[SHOT], keys[ROLE]) for _, keys in entries] == [(i, role) for i in range(3)]
        for (tensor, _), text in zip(entries, texts, strict=True):
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
        with pytest.raises(
            ValueError, match="^no prompt for shot 3 in a conditioning of 1 entries; wire the output of"
        ):
            entries_for(conds, mix)


def test_shots_with_unequally_many_entries_are_not_mixed():
    conds = [entry(0, torch.zeros(1, 4, 2)), entry(1, torch.zeros(1, 4, 2)), entry(1, torch.ones(1, 4, 2))]
    assert len(entries_for(conds, ((1, 1.0),))) == 2
    with pytest.raises(ValueError, match=r"neighbouring shots have 1 and 2 conditioning entries and cannot be mixed"):
        entries_for(conds, ((0, 0.5), (1, 0.5)))


def test_the_role_is_that_of_longreel_encode_or_none():
    assert role_of([entry(0, torch.zeros(1)), entry(None, torch.zeros(1))]) == POSITIVE
    assert role_of([entry(None, torch.zeros(1))]) is None and role_of(None) is None and role_of([]) is None


def test_a_model_without_a_text_encoder_is_told_where_to_get_one(timeline):
    with pytest.raises(ValueError, match="no text encoder came with this checkpoint; load one with Load CLIP"):
        conditioning.encode_timeline(None, timeline)


@pytest.fixture
def encoded(tiny, timeline):
    """(positive, negative) as core's samplers hold them: one dict per entry."""
    with torch.inference_mode():
        positive, negative = encode_timeline(tiny("wan21").clip, timeline)
    return comfy.sampler_helpers.convert_cond(positive), comfy.sampler_helpers.convert_cond(negative)


def guider_of(encoded):
    return dict(zip(("positive", "negative"), encoded, strict=True))


def processed(model, conds):
    """As core hands them to the network's evaluation."""
    noise = torch.zeros(1, 16, 5, 8, 8)
    return comfy.samplers.process_conds(model.model, noise, conds, "cpu", latent_image=noise, seed=0)


def test_every_entry_carries_the_words_of_its_shots_prompt(encoded):
    for entries, texts in zip(encoded, (["a fox ink", "a ship ink", "a fox ink"], ["blurry", "fog", ""]), strict=True):
        for shot, (entry, text) in enumerate(zip(entries, texts, strict=True)):
            (spoken,) = entry[WORDS]
            assert (spoken.share, spoken.shot) == (1.0, shot)
            assert " ".join(word.text for word in spoken.words) == text


def test_the_weights_of_words_stand_at_their_tokens(encoded):
    words = [("fox",), ("ship", "ink"), ("fox",)]
    positive, _ = encoded
    assert word_weights(positive[0], words).tolist() == [0, 1]
    assert word_weights(positive[1], words).tolist() == [0, 1, 1]


def test_a_token_that_two_wanted_words_share_counts_once(encoded):
    assert word_weights(encoded[0][0], [("fox", "a fox"), (), ()]).tolist() == [1, 1]


def test_words_are_there_after_core_has_processed_the_entries(tiny, encoded):
    conds = processed(tiny("wan21").model, guider_of(encoded))
    for name, entries in zip(("positive", "negative"), encoded, strict=True):
        assert [entry[WORDS] for entry in conds[name]] == [entry[WORDS] for entry in entries]


def test_a_mixed_entry_has_the_words_of_both_prompts_by_their_shares(tiny, encoded):
    conds = processed(tiny("wan21").model, guider_of(encoded))
    words = [("fox",), ("ship", "ink"), ("fox",)]
    (mixed,) = entries_for(conds["positive"], ((0, 0.75), (1, 0.25)))
    assert word_weights(mixed, words).tolist() == [0, 1, 0.25]
    (twice,) = entries_for([{**mixed, SHOT: 0}, conds["positive"][2]], ((0, 0.5), (2, 0.5)))
    torch.testing.assert_close(word_weights(twice, words), torch.tensor([0, 1, 0.125]))


def test_words_survive_cores_conditioning_nodes(tiny, timeline):
    with torch.inference_mode():
        positive, negative = encode_timeline(tiny("wan21").clip, timeline)
        zeroed = nodes.ConditioningZeroOut().zero_out(positive)[0]
        ranged = nodes.ConditioningSetTimestepRange().set_range(positive, 0.0, 0.5)[0]
        combined = nodes.ConditioningCombine().combine(positive, negative)[0]
    for changed in (zeroed, ranged, combined):
        assert [keys[WORDS] for _, keys in changed][:3] == [keys[WORDS] for _, keys in positive]
    assert [keys[WORDS] for _, keys in combined][3:] == [keys[WORDS] for _, keys in negative]


def test_words_that_every_shot_has_are_accepted(encoded):
    check_words(guider_of(encoded), [("fox",), ("A ship", "ink"), ("a", "fox")])


def test_a_missing_word_is_refused_with_its_shot_and_the_prompts_words(encoded):
    with pytest.raises(ValueError, match='^shot 2: "fox" is not among the 3 words .*; use words of a, ship, ink$'):
        check_words(guider_of(encoded), [("fox",), ("fox",), ("fox",)])


def test_words_are_looked_for_in_the_positive_prompt_alone(encoded):
    with pytest.raises(ValueError, match='^shot 1: "blurry" is not among'):
        check_words(guider_of(encoded), [("blurry",), ("ship",), ("fox",)])


def test_a_shot_without_words_is_refused(encoded):
    with pytest.raises(ValueError, match="^shot 2 has no words to look for; name words of its prompt"):
        check_words(guider_of(encoded), [("fox",), (), ("fox",)])


def test_prompts_that_do_not_come_from_longreel_encode_have_no_words(tiny, encoded):
    stranger = comfy.sampler_helpers.convert_cond(encode(tiny("wan21").clip, "a fox"))
    for conds in ({"positive": stranger}, {}):
        with pytest.raises(ValueError, match="^all of the positive conditioning entries do not come from Longreel"):
            check_words(conds, [("fox",)])
    with pytest.raises(ValueError, match="^1 of 4 positive conditioning entries do not come from Longreel Encode"):
        check_words({"positive": encoded[0] + stranger}, [("fox",), ("ship",), ("fox",)])


def test_a_shot_with_two_prompts_or_none_is_refused(encoded):
    positive, _ = encoded
    words = [("fox",), ("ship",), ("fox",)]
    with pytest.raises(
        ValueError, match="^shot 1 has 2 positive prompts, and words are looked for in a single one; wire"
    ):
        check_words({"positive": [*positive, {**positive[1], SHOT: 0}]}, words)
    with pytest.raises(ValueError, match="^shot 3 has no positive prompt to look for words in; wire"):
        check_words({"positive": positive[:2]}, words)


def test_an_encoder_without_known_words_encodes_and_is_refused_when_words_are_asked_for(tiny, timeline):
    clip = tiny("wan21").clip.clone()
    clip.tokenizer = NamelessTokenizer(clip.tokenizer)
    with torch.inference_mode():
        positive, _ = encode_timeline(clip, timeline)
    entries = comfy.sampler_helpers.convert_cond(positive)
    for ask in (
        lambda: check_words({"positive": entries}, [("fox",), ("ship",), ("fox",)]),
        lambda: word_weights(entries[0], [("fox",)]),
    ):
        with pytest.raises(ValueError, match="no words can be found in the tokens of text encoder HashEncoder"):
            ask()


class NamelessTokenizer:
    """The tokenizer, without its promise to give the words back."""

    def __init__(self, tokenizer):
        self.tokenize_with_weights = tokenizer.tokenize_with_weights
