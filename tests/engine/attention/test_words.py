"""engine/attention/words.py: words are found in the pieces of any tokenizer, and unknown ones refused by name."""

import pytest

from longreel.engine.attention.words import Word, find, words_of_pieces

SENTENCEPIECE = ["▁A", "▁red", "▁", "fox", "▁jump", "s", ",", "▁red", ".", "</s>", "<pad>", "<pad>"]
LLAMA = ["A", "Ġred", "Ġfox", "Ġjump", "s", ",", "Ġred", ".", "<|eot_id|>"]
CLIP = ["<|startoftext|>", "a</w>", "red</w>", "fox</w>", "jump", "s</w>", ",</w>", "red</w>", ".</w>", "<|endoftext|>"]
WHOLE = ["a", "red", "fox", "jumps,", "red", "<pad>", "<pad>"]
TEXT = "A red fox jumps, red."


@pytest.mark.parametrize(
    "pieces, tokens",
    [
        (SENTENCEPIECE, [(0,), (1,), (3,), (4, 5), (7,)]),
        (LLAMA, [(0,), (1,), (2,), (3, 4), (6,)]),
        (CLIP, [(1,), (2,), (3,), (4, 5), (7,)]),
        (WHOLE, [(0,), (1,), (2,), (3,), (4,)]),
    ],
    ids=["sentencepiece", "byte-level", "clip", "whole words"],
)
def test_pieces_alone_tell_words_and_their_tokens(pieces, tokens):
    words = words_of_pieces(pieces)
    assert [word.text.casefold() for word in words] == ["a", "red", "fox", "jumps", "red"]
    assert [word.tokens for word in words] == tokens


@pytest.mark.parametrize("pieces", [SENTENCEPIECE, LLAMA, CLIP], ids=["sentencepiece", "byte-level", "clip"])
def test_the_prompt_gives_the_same_words_in_its_own_letters(pieces):
    words = words_of_pieces(pieces, TEXT)
    assert [word.text for word in words] == ["A", "red", "fox", "jumps", "red"]
    assert [word.tokens for word in words] == [word.tokens for word in words_of_pieces(pieces)]


def test_special_and_padding_tokens_belong_to_no_word():
    assert words_of_pieces([None, "▁fox", "</s>", None, "<pad>"]) == (Word("fox", (1,)),)
    assert words_of_pieces(["▁fo", None, "x"]) == (Word("fo", (0,)), Word("x", (2,)))
    assert words_of_pieces([None, "<pad>"], "") == () == words_of_pieces([])


@pytest.mark.parametrize(
    "pieces, tokens",
    [
        (["Ġcaf", "Ã©", "Ġç", "Į", "«"], [(0, 1), (2, 3, 4)]),
        (["caf", "Ã©</w>", "ç", "Į", "«</w>"], [(0, 1), (2, 3, 4)]),
        (["▁caf", "é", "▁", "<0xE7>", "<0x8C>", "<0xAB>"], [(0, 1), (3, 4, 5)]),
        (["▁café", "▁猫"], [(0,), (1,)]),
        (["café", "猫"], [(0,), (1,)]),
    ],
)
def test_letters_outside_ascii_survive_also_in_parts(pieces, tokens):
    words = words_of_pieces(pieces)
    assert [word.text for word in words] == ["café", "猫"] and [word.tokens for word in words] == tokens
    assert find(words, "CAFÉ") == tokens[0]


def test_a_token_over_two_words_belongs_to_both():
    """LLaMA's tokenizer under transformers 5: blanks are lost, so only the prompt knows where words end."""
    words = words_of_pieces(["A", "red", "fo", "xj", "umps"], "A red fox jumps")
    assert words == (Word("A", (0,)), Word("red", (1,)), Word("fox", (2, 3)), Word("jumps", (3, 4)))


def test_an_unknown_token_stands_for_the_letters_that_it_took_the_place_of():
    words = words_of_pieces(["▁n", "a", "<unk>", "ve", "▁<", "unk", ">", "</s>"], "naïve <unk>")
    assert words[0] == Word("naïve", (0, 1, 2, 3))
    words = words_of_pieces(["▁the", "▁", "<unk>", "▁jump", "s"], "the 猫 jumps")
    assert words == (Word("the", (0,)), Word("猫", (2,)), Word("jumps", (3, 4)))


def test_words_that_no_token_spells_are_left_out():
    assert words_of_pieces(["the", "Ġjumps"], "the 猫 jumps") == (Word("the", (0,)), Word("jumps", (1,)))


def test_tokens_that_are_not_of_the_prompt_belong_to_no_word():
    pieces = ["A", "Ġ(", "red", "Ġfox", ":", "1", ".", "3", ")", "<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"]
    assert words_of_pieces(pieces, "A red fox") == (Word("A", (0,)), Word("red", (2,)), Word("fox", (3,)))


def test_accents_written_apart_and_wide_letters_are_the_same_words():
    (word,) = words_of_pieces(["▁café"], "cafe\u0301")
    assert word == Word("café", (0,)) and find([word], "cafe\u0301") == (0,)
    assert words_of_pieces(["▁", "fox"], "ｆｏｘ") == (Word("fox", (1,)),)


def test_every_occurrence_of_a_word_is_found_whatever_its_case():
    words = words_of_pieces(SENTENCEPIECE, TEXT)
    assert find(words, "red") == (1, 7) == find(words, "Red,")
    assert find(words, "jumps") == (4, 5)


def test_a_phrase_is_its_words_in_a_row():
    words = words_of_pieces(SENTENCEPIECE, TEXT)
    assert find(words, "red fox") == (1, 3)
    hyphen = words_of_pieces(["▁well", "-", "known", "▁fox"], "well-known fox")
    assert find(hyphen, "well-known") == (0, 2) and find(hyphen, "known fox") == (2, 3)
    with pytest.raises(ValueError, match='^"fox red" is not among the 5 words'):
        find(words, "fox red")


def test_signs_of_a_script_without_blanks_are_found_one_by_one_and_together():
    words = words_of_pieces(["▁", "猫", "が跳", "ぶ"], "猫が跳ぶ")
    assert find(words, "猫") == (1,) and find(words, "跳ぶ") == (2, 3)


def test_a_missing_word_is_refused_with_the_prompts_words_and_the_nearest():
    words = words_of_pieces(SENTENCEPIECE, TEXT)
    with pytest.raises(
        ValueError,
        match=r'^"foxes" is not among the 5 words of the prompt; use words of A, red, '
        r'fox, jumps \(nearest: "fox"\)$',
    ):
        find(words, "foxes")
    with pytest.raises(ValueError, match=r'nearest: "red fox"'):
        find(words, "rad fox")
    with pytest.raises(ValueError, match="use words of A, red, fox, jumps$"):
        find(words, "zzz")


def test_what_is_no_word_is_refused():
    with pytest.raises(ValueError, match='^", " holds no word; use words of A, red'):
        find(words_of_pieces(SENTENCEPIECE), ", ")
    with pytest.raises(ValueError, match='"fox" is not among the 0 words of the prompt; write a prompt with w'):
        find((), "fox")
