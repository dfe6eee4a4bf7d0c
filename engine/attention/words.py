"""Find the text tokens that spell the words of a prompt, so that users name words and never token numbers.

Source: none; DiTCtrl's public code asks its users for token numbers. Tokens are known here by their pieces as
vocabularies write them: SentencePiece ("▁cat", "s", "<0xC3>"), byte-level BPE ("Ġcat", "s"), CLIP ("cat</w>") and plain
whole words. A position is a place in the list of pieces; which tokenizer made them, and which of its tokens a network
sees, is not known here.

What counts as a word is up to the prompt as it was written, because pieces alone do not always tell: T5 spells "naïve"
with an unknown token, and LLaMA's tokenizer under transformers 5 loses every blank.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

_NO_BLANKS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Han: each sign is a word, several are a phrase
_WORD = re.compile(rf"[{_NO_BLANKS}]|[^\W{_NO_BLANKS}]+")
_SPECIAL = re.compile(r"<[^<>\s]+>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_LOST = "\ufffd"  # what was there before the tokenizer gave up


@dataclass(frozen=True)
class Word:
    """This is a word: `text` as the prompt has it, `tokens` the rising positions of all tokens that spell a
    part of it.
    """

    text: str
    tokens: tuple[int, ...]


def words_of_pieces(pieces: Sequence[str | None], text: str | None = None) -> tuple[Word, ...]:
    """Return the words in order, without punctuation; a token that runs over the end of a word belongs to both.

    pieces: one per token, position = index; None and pieces in angle brackets are special tokens or padding.
    text: the prompt as it was written, without weights; words that none of the pieces spells are left out. Without it
    the pieces must tell the words apart: by "▁", "Ġ" or "</w>", or by being one word each.
    """
    spelled = _letters(_bytes_of(pieces, whole_words=text is None))
    text = unicodedata.normalize("NFKC", "".join(char for char, _ in spelled) if text is None else text)
    tokens: list[set[int]] = [set() for _ in text]
    written = _folded((char, [place]) for place, char in enumerate(text))
    for places, positions in _aligned(written, _folded(spelled)):
        for place in places:
            tokens[place].update(positions)
    words = (
        Word(match[0], tuple(sorted(set().union(*tokens[match.start() : match.end()]))))
        for match in _WORD.finditer(text)
    )
    return tuple(word for word in words if word.tokens)


def find(words: Sequence[Word], wanted: str) -> tuple[int, ...]:
    """Return the rising token positions of every occurrence of a word, or of several words that follow each other.

    Upper and lower case are the same. Raises ValueError, with the prompt's words and the nearest of them, when `wanted`
    is not there.
    """
    sought = [word.casefold() for word in _WORD.findall(unicodedata.normalize("NFKC", wanted))]
    if not sought:
        raise ValueError(f'"{wanted}" holds no word; {_choice(words)}')
    spoken = [word.text.casefold() for word in words]
    phrases = [spoken[at : at + len(sought)] for at in range(len(spoken) - len(sought) + 1)]
    positions = {
        token
        for at, phrase in enumerate(phrases)
        if phrase == sought
        for word in words[at : at + len(sought)]
        for token in word.tokens
    }
    if not positions:
        near = get_close_matches(" ".join(sought), [" ".join(phrase) for phrase in phrases] + spoken, n=1)
        raise ValueError(
            f'"{wanted}" is not among the {len(words)} words of the prompt; {_choice(words)}'
            + (f' (nearest: "{near[0]}")' if near else "")
        )
    return tuple(sorted(positions))


def _choice(words: Sequence[Word]) -> str:
    if not words:
        return "write a prompt with words"
    return f"use words of {', '.join(dict.fromkeys(word.text for word in words))}"


def _bytes_of(pieces: Sequence[str | None], whole_words: bool) -> list[bytes | None]:
    """Return what each piece spells in UTF-8, blanks included; None for special tokens."""
    known = [piece for piece in pieces if piece is not None]
    if any("▁" in piece for piece in known):
        return [_spelled(piece, _sentencepiece) for piece in pieces]
    if any(piece.endswith("</w>") for piece in known):
        return [_spelled(piece, _clip) for piece in pieces]
    if whole_words and not any("Ġ" in piece for piece in known):
        return [_spelled(piece, lambda word: f" {word}".encode()) for piece in pieces]
    return [_spelled(piece, _byte_level) for piece in pieces]


def _spelled(piece: str | None, spell: Callable[[str], bytes]) -> bytes | None:
    if piece == "<unk>":
        return _LOST.encode()
    if piece is None or (_SPECIAL.fullmatch(piece) and not _BYTE.fullmatch(piece)):
        return None
    return spell(piece)


def _sentencepiece(piece: str) -> bytes:
    if byte := _BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()


def _clip(piece: str) -> bytes:
    return _byte_level(piece.removesuffix("</w>")) + (b" " if piece.endswith("</w>") else b"")


def _byte_level(piece: str) -> bytes:
    return b"".join(bytes([_BYTE_OF[char]]) if char in _BYTE_OF else char.encode() for char in piece)


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's letter for each byte: itself where it can be printed, else the next one from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _letters(spelled: Iterable[bytes | None]) -> list[tuple[str, list[int]]]:
    """Return each letter with the tokens whose bytes it is made of; a special token parts words like a blank."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    letters: list[tuple[str, list[int]]] = []
    open_tokens: list[int] = []  # of a letter whose bytes are not complete
    for token, part in enumerate(spelled):
        if part is None:
            decoder.reset()
            open_tokens = []
            letters.append((" ", []))
            continue
        for byte in part:
            if token not in open_tokens:
                open_tokens = [*open_tokens, token]
            done = decoder.decode(bytes([byte]))
            letters += [(char, open_tokens) for char in done]
            if done:
                open_tokens = [token] if decoder.getstate()[0] else []
    return letters


def _folded(letters: Iterable[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """Fold case and width and leave blanks out, which is the form in which prompt and pieces are compared."""
    return [
        (folded, owners)
        for char, owners in letters
        for folded in unicodedata.normalize("NFKC", char).casefold()
        if not folded.isspace()
    ]


def _aligned(
    written: list[tuple[str, list[int]]], spelled: list[tuple[str, list[int]]]
) -> Iterator[tuple[list[int], list[int]]]:
    """Return pairs of (places in the prompt, token positions). Letters that the tokenizer replaced belong to whatever
    it put in their place.
    """
    a, b = "".join(char for char, _ in written), "".join(char for char, _ in spelled)
    codes = [("equal", 0, len(a), 0, len(b))] if a == b else SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    for code, a0, a1, b0, b1 in codes:
        if code == "equal":
            yield from (
                (places, tokens) for (_, places), (_, tokens) in zip(written[a0:a1], spelled[b0:b1], strict=True)
            )
        elif code == "replace":
            yield [p for _, places in written[a0:a1] for p in places], [t for _, ts in spelled[b0:b1] for t in ts]
