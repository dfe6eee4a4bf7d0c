"""Say in bytes what a feature keeps of the network's attention, in ints: how large an evaluation is, and what a
feature's share of memory is.

Two places hold what is kept. On the card it lies as the network made it. In main memory it lies apart by groups of
heads, which come back one ahead of the other, so that the card holds few of them at a time. Which features there are,
and how a group travels, is not known here (hosts/attention/kv_cache.py).
"""

from dataclasses import dataclass
from math import ceil

AUTO, CARD, MAIN_MEMORY = "auto", "card", "main memory"  # where keys and values are kept
PLACES = (AUTO, CARD, MAIN_MEMORY)
FULL, EIGHT_BIT = "full", "8-bit"  # the form in which they are kept
FORMS = (FULL, EIGHT_BIT)
GROUP_BYTES = 128 * 2**20  # keys and values of a group of heads, all rows of a batch: what travels at once
SCALE_BYTES = 4  # a float32 for each token and head of 8-bit keys, and of values
SLOTS = 4  # groups on the card while main memory is written and read: two each way, one ahead of the other


@dataclass(frozen=True)
class Keep:
    """Keep keys and values in this way.

    place: AUTO where the plan chooses, CARD or MAIN_MEMORY. form: FULL as the network makes them, or EIGHT_BIT.
    every_frames: each n-th token frame alone, 1 for all.
    """

    place: str = AUTO
    form: str = FULL
    every_frames: int = 1


@dataclass(frozen=True)
class AttentionSize:
    """This is what one evaluation of the network shows to its attention.

    rows: of the batch, prompts times videos. heads, head_width, itemsize: of keys. frames: latent frames of the window,
    with the frame in front of it. patch_frames: latent frames of a token frame. tokens_of_frame: of a token frame.
    text_tokens: of a prompt. sites: (kind, block) of every attention, kinds as hosts/families/sites.py has them.
    """

    rows: int
    heads: int
    head_width: int
    itemsize: int
    frames: int
    patch_frames: int
    tokens_of_frame: int
    text_tokens: int
    sites: tuple[tuple[str, int], ...]

    def video_tokens(self, frames: int | None = None, every_frames: int = 1) -> int:
        """Return the video tokens of so many latent frames, of all where None."""
        token_frames = ceil((self.frames if frames is None else frames) / self.patch_frames)
        return ceil(token_frames / every_frames) * self.tokens_of_frame

    def bytes_of(self, tokens: int, form: str = FULL) -> int:
        """Return the bytes of the keys and values of so many tokens in one layer, for all rows."""
        of_head = self.head_width * self.itemsize if form == FULL else self.head_width + SCALE_BYTES
        return 2 * self.rows * tokens * self.heads * of_head

    def group_bytes(self, tokens: int) -> int:
        """Return the bytes of the largest group of heads of so many tokens, as the network reads it."""
        of_head = self.bytes_of(tokens) // self.heads
        return of_head * heads_of_group(of_head, self.heads)


def heads_of_group(bytes_of_head: int, heads: int) -> int:
    """Return how many heads travel, and are attended to, at once: as many as GROUP_BYTES hold, at least one."""
    return max(1, min(heads, GROUP_BYTES // max(1, bytes_of_head)))


@dataclass(frozen=True)
class Need:
    """This is the memory of one feature beside weights and the network's own window.

    kept: bytes that stay from one evaluation to the next, at `keep.place`. reading: bytes on the card, beside those,
    while one attention call is made (copies, rotations). slots: bytes on the card in addition where kept in main
    memory.
    """

    name: str
    kept: int = 0
    reading: int = 0
    slots: int = 0
    keep: Keep = Keep()

    def on_card(self, place: str) -> int:
        """Return its bytes on the card where it is kept at `place`."""
        return self.reading + (self.kept if place == CARD else self.slots)

    def in_main_memory(self, place: str) -> int:
        """Return its bytes in main memory where it is kept at `place`."""
        return 0 if place == CARD else self.kept
