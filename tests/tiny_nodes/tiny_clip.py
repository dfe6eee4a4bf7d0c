"""A text encoder without weights: every word is its hash, made into a vector. ComfyUI's own `comfy.sd.CLIP` around it.

It stands where T5, UMT5 or LLaMA stand for real models: one token per word, word weights by ComfyUI's `(word:1.3)`
syntax, an end token, zeros after it. Text, word order and weights change the embedding; the same text gives the same
numbers on every machine. It has no grammar and no meaning: related words are as far apart as any others.
"""

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

import comfy.sd
from comfy.sd1_clip import escape_important, token_weights, unescape_important

TEXT_DIM = 32
PAD = 0
END = 1


@dataclass(frozen=True)
class TextFacts:
    """What a family's network wants beside the embedding. Lengths in tokens."""

    tokens: int
    attention_mask: bool = False
    pooled_dim: int = 0
    own_dim: int = 0

    @property
    def dim(self) -> int:
        """Width of the embedding: the family's own, or that of them all."""
        return self.own_dim or TEXT_DIM


FAMILIES = {
    "wan": TextFacts(tokens=16),
    "cogvideox": TextFacts(tokens=16),
    "hunyuan_video": TextFacts(tokens=16, pooled_dim=768),
    "ltxv": TextFacts(tokens=16, attention_mask=True),
    "hunyuan_video15": TextFacts(tokens=16),
    "kandinsky": TextFacts(tokens=16, pooled_dim=768, own_dim=3584),
    "ltxav": TextFacts(tokens=16, attention_mask=True, own_dim=64),
}


def word_id(word: str) -> int:
    """A number in 2 .. 2**32 + 1 that depends on the word alone."""
    return 2 + int.from_bytes(hashlib.blake2s(word.encode(), digest_size=4).digest(), "little")


def vector(seed: int, dim: int) -> torch.Tensor:
    """[dim], standard normal, drawn on the CPU so that every device sees the same numbers."""
    return torch.randn(dim, generator=torch.Generator().manual_seed(seed))


class WordTokenizer:
    """One token per word, padded to at least `length`; longer texts keep all their words."""

    whole_words = True  # hosts/prompts/words.py: untokenize gives one word per token

    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict | None = None) -> None:
        self.length = (tokenizer_data or {})["length"]
        self.words: dict[int, str] = {}  # of every token given out so far: a hash does not tell its word

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list[list[tuple]]]:
        pairs = []
        for piece, weight in token_weights(escape_important(text), 1.0):
            for word in unescape_important(piece).lower().split():
                self.words[word_id(word)] = word
                pairs.append((word_id(word), weight))
        pairs.append((END, 1.0))
        pairs += [(PAD, 1.0)] * (self.length - len(pairs))
        if return_word_ids:
            pairs = [(token, weight, number + 1) for number, (token, weight) in enumerate(pairs)]
        return {"words": [pairs]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple]:
        special = {PAD: "<pad>", END: "<end>"}
        return [(pair, special.get(pair[0]) or self.words[pair[0]]) for pair in pairs]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


class HashEncoder(torch.nn.Module):
    """Tokens -> [1, tokens, dim]: the word's vector times its weight plus half the position's vector."""

    def __init__(self, facts: TextFacts, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None):
        super().__init__()
        self.facts = facts
        self.dtypes = {torch.float32}
        # comfy.sd.CLIP moves and measures its module by its parameters, so there has to be one.
        self.scale = torch.nn.Parameter(torch.ones(1, device=device), requires_grad=False)

    def set_clip_options(self, options: dict) -> None:
        """Layer and projection options of real encoders; this one has a single layer."""

    def reset_clip_options(self) -> None:
        """Undo `set_clip_options`, which changed nothing."""

    def load_sd(self, state: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
        return [], list(state)

    def encode_token_weights(self, tokens: dict[str, list[list[tuple]]]) -> tuple:
        rows, masks = [], []
        for pairs in tokens["words"]:
            rows.append(torch.stack([self.embed(place, *pair[:2]) for place, pair in enumerate(pairs)]))
            masks.append(torch.tensor([int(pair[0] != PAD) for pair in pairs]))
        embedding = torch.stack(rows) * self.scale.cpu()  # [B, tokens, dim]
        mask = torch.stack(masks)  # [B, tokens]
        pooled = None
        if self.facts.pooled_dim:
            mean = embedding.sum(1) / mask.sum(1, keepdim=True)
            pooled = mean.repeat(1, -(-self.facts.pooled_dim // self.facts.dim))[
                :, : self.facts.pooled_dim
            ]  # [B, pooled_dim]
        if self.facts.attention_mask:
            return embedding, pooled, {"attention_mask": mask}
        return embedding, pooled

    def embed(self, place: int, token: int, weight: float) -> torch.Tensor:
        if token == PAD:
            return torch.zeros(self.facts.dim)
        # Position seeds start above the word ids, so no word shares a vector with a place.
        return vector(token, self.facts.dim) * weight + 0.5 * vector(2**33 + place, self.facts.dim)


def make_tiny_clip(family: str) -> comfy.sd.CLIP:
    """A CLIP for core's CLIP Text Encode. `family` is a key of FAMILIES.

    Raises:
        ValueError: the family is unknown; the message lists those that are known.
    """
    if family not in FAMILIES:
        raise ValueError(f"no tiny CLIP for family {family!r}; use one of {', '.join(FAMILIES)}")
    facts = FAMILIES[family]
    target = SimpleNamespace(params={"facts": facts}, clip=HashEncoder, tokenizer=WordTokenizer)
    return comfy.sd.CLIP(target, tokenizer_data={"length": facts.tokens}, parameters=1)
