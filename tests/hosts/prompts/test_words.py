"""hosts/prompts/words.py: a word's positions are the places in the conditioning tensor that its tokens make.

Shown on core's own encoders and tokenizers at toy size: a weight changes the tensor at the tokens of its word alone.
"""

import pytest
import torch

from longreel.engine.attention.words import find
from longreel.hosts.demo_model import TEXT_FILE, WEIGHTS, load_demo_clip
from longreel.hosts.prompts.words import words_of_tokens
from tests.tiny_sampling import encode
from tests.tiny_text_encoders import tiny_text_encoder

WEIGHTED = ("cogvideox", "ltxv", "wan", "hunyuan_video")
EVERY = (*WEIGHTED, "hunyuan_video_15", "kandinsky5")
PROMPT = "A red fox, a naïve fox and a café"


def words_of_prompt(clip, text: str):
    """The words of `text` as the CLIP's own tokenizer splits it."""
    return words_of_tokens(clip, text, clip.tokenize(text))


def changed(clip, one, other):
    """Positions at which the conditioning of two prompts differs."""
    a, b = encode(clip, one)[0][0], encode(clip, other)[0][0]
    return tuple((a != b).any(dim=-1)[0].nonzero()[:, 0].tolist())


def sections_of(clip, text):
    return next(iter(clip.tokenize(text).values()))


@pytest.mark.parametrize("family", WEIGHTED)
@pytest.mark.parametrize("word", ["red", "naïve", "café"])
def test_a_word_is_where_its_weight_changes_the_conditioning(family, word):
    clip = tiny_text_encoder(family)
    weighted = PROMPT.replace(word, f"({word}:%s)")
    found = find(words_of_prompt(clip, weighted % 1.3), word)
    places = changed(clip, weighted % 1.3, weighted % 1.5)
    assert found and set(found) <= set(places)
    assert len(places) - len(found) <= 1  # SentencePiece may set a blank apart, in front of the word


@pytest.mark.parametrize("family", EVERY)
def test_words_stand_as_they_were_written(family):
    words = words_of_prompt(tiny_text_encoder(family), PROMPT)
    assert [word.text for word in words] == ["A", "red", "fox", "a", "naïve", "fox", "and", "a", "café"]


@pytest.mark.parametrize("family", EVERY)
def test_positions_lie_within_the_text_that_the_network_receives(family):
    clip = tiny_text_encoder(family)
    words = words_of_prompt(clip, PROMPT)
    first, last = words[0].tokens[0], words[-1].tokens[-1]
    assert 0 <= first <= 2 and last < encode(clip, PROMPT)[0][0].shape[1]


@pytest.mark.parametrize("family", ["hunyuan_video_15", "kandinsky5"])
def test_the_template_of_qwen_is_cut_as_core_cuts_it(family):
    """It takes no weights; but it reads forward, so its output changes from the first changed token on."""
    clip = tiny_text_encoder(family)
    (position,) = find(words_of_prompt(clip, "A red fox runs"), "fox")
    assert changed(clip, "A red fox runs", "A red dog runs")[0] == position


@pytest.mark.parametrize("family", ["hunyuan_video", "hunyuan_video_15", "kandinsky5"])
def test_words_of_the_template_are_not_words_of_the_prompt(family):
    words = words_of_prompt(tiny_text_encoder(family), "A fox")
    for word in ("video", "user", "assistant"):
        with pytest.raises(ValueError, match=f'"{word}" is not among the 2 words .*; use words of A, fox'):
            find(words, word)


def test_weights_are_no_words():
    words = words_of_prompt(tiny_text_encoder("cogvideox"), r"A (red (fox:1.3)) \(old\)")
    assert [word.text for word in words] == ["A", "red", "fox", "old"]


def test_a_prompt_longer_than_the_padding_keeps_its_positions():
    clip = tiny_text_encoder("cogvideox")
    text = "a ship " * 300 + "and a (fox:%s)"
    assert find(words_of_prompt(clip, text % 1.2), "fox")[0] > 226
    assert set(find(words_of_prompt(clip, text % 1.2), "fox")) <= set(changed(clip, text % 1.2, text % 1.4))


def test_positions_run_on_over_the_sections_of_a_long_prompt():
    clip = tiny_text_encoder("clip_l")
    text = "a ship " * 60 + "and a (fox:%s)"
    assert len(sections_of(clip, text % 1.2)) == 2
    (position,) = find(words_of_prompt(clip, text % 1.2), "fox")
    assert position > 77 and changed(clip, text % 1.2, text % 1.4) == (position,)


def test_the_demo_models_words_are_its_tokens():
    clip = load_demo_clip(WEIGHTS / TEXT_FILE)
    text = "a big (red:%s) circle moves left"
    words = words_of_prompt(clip, text % 1.3)
    assert [word.text for word in words] == ["a", "big", "red", "circle", "moves", "left"]
    assert find(words, "red") == (2,) == changed(clip, text % 1.3, text % 1.5)


def test_words_that_the_demo_model_does_not_know_have_no_token():
    words = words_of_prompt(load_demo_clip(WEIGHTS / TEXT_FILE), "a zebra and a red circle")
    assert find(words, "red circle") == (3, 4)
    with pytest.raises(ValueError, match='"zebra" is not among the 5 words'):
        find(words, "zebra")


def test_the_tiny_clips_words_are_its_tokens(tiny):
    clip = tiny("wan21").clip
    text = "a (red:%s) fox, a fox"
    words = words_of_prompt(clip, text % 1.3)
    assert find(words, "fox") == (2, 4)
    assert find(words, "red") == changed(clip, text % 1.3, text % 1.5)


def test_an_encoder_that_cannot_be_followed_is_refused_by_name():
    clip = tiny_text_encoder("cogvideox").clone()
    clip.cond_stage_model = torch.nn.Identity()
    with pytest.raises(
        ValueError, match="no words can be found in the tokens of text encoder Identity.*Wan, CogVideoX"
    ):
        words_of_prompt(clip, "a fox")
