"""The demo model's ear: a word-level tokenizer and a two-layer transformer, trained together with the DiT.

It knows the words of shape world and, where its weights have rows for them, of the picture book, and nothing else;
words that it does not know are handed back to the caller, who reports them.
It has never heard of ComfyUI: hosts/demo_model.py makes a CLIP of it.
"""

import difflib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import world
from .picture_book import scenes, sprites

PAD = "<pad>"
VOCABULARY: tuple[str, ...] = (
    PAD,
    "a",
    "an",
    "and",
    "on",
    "the",
    "in",
    "with",
    "background",
    "shape",
    "two",
    "moves",
    "left",
    "right",
    "up",
    "down",
    "bounces",
    "stays",
    "still",
    "leaves",
    "returns",
    "enters",
    *world.SIZES,
    *world.COLORS,
    *world.SHAPES,
    *world.BACKGROUNDS,
)
ROWS = 64  # embedding rows of shape world's model; the spare ones were never trained
BOOK_VOCABULARY: tuple[str, ...] = (
    *VOCABULARY,
    "thing",
    "it",
    "that",
    "then",
    "at",
    "to",
    "across",
    "crosses",
    "circles",
    "hops",
    "rests",
    "chases",
    "carries",
    *(coat for coat in sprites.COATS if coat not in VOCABULARY),
    *scenes.SCENES,
    *sprites.KINDS,
)  # of the picture book's model: the old words keep their rows
BOOK_ROWS, BOOK_WIDTH = 96, 96
TOKENS = 20  # per prompt, padded: cross-attention always sees this many
WIDTH = 64

_SYNONYMS = {
    "moving": "moves",
    "move": "moves",
    "bouncing": "bounces",
    "bounce": "bounces",
    "staying": "stays",
    "stay": "stays",
    "leaving": "leaves",
    "returning": "returns",
    "entering": "enters",
    "grey": "gray",
    "large": "big",
    "little": "small",
    "violet": "purple",
    "object": "shape",
    "leftwards": "left",
    "rightwards": "right",
    "upwards": "up",
    "downwards": "down",
    "motionless": "still",
    "backdrop": "background",
}
_BOOK_SYNONYMS = {
    **_SYNONYMS,
    "ginger": "orange",
    "kitten": "cat",
    "puppy": "dog",
    "pony": "horse",
    "bunny": "rabbit",
    "sailboat": "boat",
    "ocean": "sea",
    "water": "sea",
    "grass": "meadow",
    "field": "meadow",
    "road": "street",
    "something": "thing",
    "animal": "thing",
    "crossing": "crosses",
    "cross": "crosses",
    "circling": "circles",
    "hopping": "hops",
    "hop": "hops",
    "resting": "rests",
    "rest": "rests",
    "sleeps": "rests",
    "sleeping": "rests",
    "sits": "rests",
    "chasing": "chases",
    "chase": "chases",
    "follows": "chases",
    "carrying": "carries",
    "carry": "carries",
    "holds": "carries",
}


@dataclass(frozen=True)
class Tokens:
    """`words` and their `ids` in order, unpadded; `unknown` words were not understood, `cut` words came too late."""

    ids: tuple[int, ...]
    words: tuple[str, ...]
    unknown: tuple[str, ...]
    cut: tuple[str, ...]

    def padded(self) -> list[int]:
        return list(self.ids) + [0] * (TOKENS - len(self.ids))


class Vocabulary:
    """The words that a text encoder has rows for, in the order of its rows, and other words for them."""

    def __init__(self, words: tuple[str, ...], synonyms: dict[str, str]) -> None:
        self.words, self.synonyms = words, synonyms
        self._row_of = {word: row for row, word in enumerate(words)}

    def tokenize(self, text: str) -> Tokens:
        """Lower case, punctuation off, synonyms folded; at most TOKENS words."""
        known, unknown = [], []
        for raw in text.lower().replace(",", " ").replace("-", " ").split():
            word = raw.strip(".,!?;:\"'()")
            word = self.synonyms.get(word, word)
            if word in self._row_of and word != PAD:
                known.append(word)
            elif word:
                unknown.append(word)
        ids = tuple(self._row_of[word] for word in known[:TOKENS])
        return Tokens(ids, tuple(known[:TOKENS]), tuple(unknown), tuple(known[TOKENS:]))

    def nearest_known(self, word: str) -> str | None:
        """The closest spelling that it knows, for messages."""
        close = difflib.get_close_matches(word, [*self.words[1:], *self.synonyms], n=1, cutoff=0.6)
        return close[0] if close else None


SHAPE_WORLD, PICTURE_BOOK = Vocabulary(VOCABULARY, _SYNONYMS), Vocabulary(BOOK_VOCABULARY, _BOOK_SYNONYMS)
tokenize, nearest_known = SHAPE_WORLD.tokenize, SHAPE_WORLD.nearest_known


def vocabulary_of(rows: int) -> Vocabulary:
    """What an encoder with as many embedding rows was trained on."""
    return PICTURE_BOOK if rows == BOOK_ROWS else SHAPE_WORLD


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        B, L, C = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(B, L, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :])
        x = x + self.out(y.transpose(1, 2).reshape(B, L, C))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))


class TextEncoder(nn.Module):
    """ids [B, TOKENS] -> context [B, TOKENS, width]. An empty prompt keeps one padding token visible."""

    def __init__(self, rows: int = ROWS, width: int = WIDTH, layers: int = 2, heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(rows, width)
        self.position = nn.Parameter(torch.randn(TOKENS, width) * 0.3)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm, self.pool = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        visible = ids != 0  # [B, L]
        visible[:, 0] = True
        x = self.embedding(ids) + self.position
        for layer in self.layers:
            x = layer(x, visible)
        x = self.norm(x)
        weight = visible.to(x.dtype).unsqueeze(-1)
        sentence = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return x + self.pool(sentence)  # every token also carries the sentence
