"""Find the words of a prompt at their places in the text that the network receives, for the text encoders of core's
video models and for the pack's own (engine/attention/words.py does the matching).

Tokens are those of core's own tokenizer, `(word:1.3)` weights included; sections of long prompts run on. What encoders
do between tokens and conditioning is in comfy/text_encoders/: HunyuanVideo's and Kandinsky 5's cut their template off,
most others pass every token on. An encoder that does anything else is refused. Not known here: textual inversions of
the wrong width, which core drops, so that later words stand further left than said, and prompts that bring a chat
template of their own.
"""

import itertools
import numbers
from collections.abc import Sequence

import torch

from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, escape_important, token_weights, unescape_important
from comfy.text_encoders.hunyuan_video import HunyuanVideoClipModel, HunyuanVideoTokenizer
from comfy.text_encoders.qwen_image import QwenImageTEModel

from ...engine.attention.words import Word, words_of_pieces
from ..types import CLIP

_LLAMA_HEADER, _LLAMA_USER, _LLAMA_HEADER_END, _LLAMA_TURN_END, _LLAMA_GAP = 128006, 882, 128007, 128009, 271
_QWEN_TURN, _QWEN_USER, _QWEN_LINE_END = 151644, 872, 198


def words_of_tokens(clip: CLIP, text: str, tokens: dict[str, list[list[tuple]]]) -> tuple[Word, ...]:
    """Return the words of `text` with their positions in the conditioning tensor [B, tokens, width].

    tokens: what `clip.tokenize(text)` gave. A tokenizer may say `whole_words = True`: then its `untokenize` gives one
    word per token and its encoder passes every token on, in order. Raises ValueError for an encoder whose tokens cannot
    be followed into the conditioning.
    """
    tokenizer, encoder = clip.tokenizer, clip.cond_stage_model
    if getattr(tokenizer, "whole_words", False):
        pairs = [pair for section in itertools.chain.from_iterable(tokens.values()) for pair in section]
        return words_of_pieces([piece for _, piece in tokenizer.untokenize(pairs)])
    name, vocabulary = _text_part(tokenizer, encoder)
    # A textual inversion stands there as a vector.
    ids = [pair[0] if isinstance(pair[0], numbers.Integral) else None for section in tokens[name] for pair in section]
    begin = _words_begin(encoder, ids)
    return words_of_pieces(
        [vocabulary.get(token) for token in ids[begin : _words_end(encoder, ids, begin)]], _without_weights(text)
    )


def _text_part(tokenizer: SD1Tokenizer | HunyuanVideoTokenizer, encoder: torch.nn.Module) -> tuple[str, dict[int, str]]:
    """Return (the key of the tokens that become the conditioning tensor, piece of each token number)."""
    if isinstance(encoder, HunyuanVideoClipModel):  # its CLIP-L makes the pooled output alone
        return "llama", tokenizer.llama.inv_vocab
    plain = isinstance(encoder, SD1ClipModel) and (
        type(encoder).encode_token_weights is SD1ClipModel.encode_token_weights
    )
    if plain or isinstance(encoder, QwenImageTEModel):
        return tokenizer.clip_name, getattr(tokenizer, tokenizer.clip).inv_vocab
    raise ValueError(
        f"no words can be found in the tokens of text encoder {type(encoder).__name__}; "
        f"use the encoder of Wan, CogVideoX, HunyuanVideo, Kandinsky 5 or LTXV (T5), or ask for no words"
    )


def _words_begin(encoder: torch.nn.Module, ids: Sequence[int | None]) -> int:
    """Return how many tokens an encoder cuts off at the start, by the rules of encode_token_weights: HunyuanVideo's and
    Kandinsky 5's do.
    """
    if isinstance(encoder, HunyuanVideoClipModel):
        user = [
            at
            for at in range(len(ids) - 2)
            if ids[at] == _LLAMA_HEADER and ids[at + 1] == _LLAMA_USER and ids[at + 2] == _LLAMA_HEADER_END
        ]
        end = user[-1] + 2 if user else 0
        return end + 2 if ids[end + 1 : end + 2] == [_LLAMA_GAP] and len(ids) > end + 2 else end
    if isinstance(encoder, QwenImageTEModel):
        turns = [at for at, token in enumerate(ids) if token == _QWEN_TURN]
        if not turns:
            return 0
        end = turns[:2][-1]
        return end + 3 if ids[end + 1 : end + 3] == [_QWEN_USER, _QWEN_LINE_END] and len(ids) > end + 3 else end
    return 0


def _words_end(encoder: torch.nn.Module, ids: Sequence[int | None], begin: int) -> int:
    if isinstance(encoder, HunyuanVideoClipModel) and begin and _LLAMA_TURN_END in ids[begin:]:
        return ids.index(_LLAMA_TURN_END, begin) + 1
    return len(ids)


def _without_weights(text: str) -> str:
    parts = token_weights(escape_important(text), 1.0)
    return "".join(unescape_important(part) for part, _ in parts)
