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
FLOAT32_BYTES = 4
SCALE_BYTES = 4  # a float32 for each token and head of 8-bit keys, and of values
SLOTS = 2  # each way, between card and main memory: one ahead of the other


@dataclass(frozen=True)
class Keep:
    """Keep keys and values in this way.

    place: AUTO where the plan chooses, CARD or MAIN_MEMORY. form: FULL as the network makes them, or EIGHT_BIT.
    every_frames: each n-th token frame alone, 1 for all.
    """

    place: str = AUTO
    form: str = FULL
    every_frames: int = 1


AS_MADE = Keep()


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

    def tokens_of(self, kind: str, every_frames: int = 1) -> int:
        """Return how many keys an attention of this kind has: text, video, or both."""
        text = 0 if kind == "self" else self.text_tokens
        return text if kind == "cross" else text + self.video_tokens(every_frames=every_frames)

    def bytes_of(self, tokens: int, form: str = FULL) -> int:
        """Return the bytes of the keys and values of so many tokens in one layer, for all rows."""
        of_head = self.head_width * self.itemsize if form == FULL else self.head_width + SCALE_BYTES
        return 2 * self.rows * tokens * self.heads * of_head

    def group_bytes(self, tokens: int, form: str = FULL) -> int:
        """Return the bytes of the largest group of heads of so many tokens, by default as the network reads it."""
        heads = heads_of_group(self.bytes_of(tokens) // self.heads, self.heads)
        return self.bytes_of(tokens, form) // self.heads * heads

    def need(
        self, name: str, *, kept: int, tokens: int, keep: Keep, joined: bool = False, moved: bool = False
    ) -> "Need":
        """Return the need of a feature that keeps so many bytes, and reads `tokens` of them in one attention call.

        joined: they stand beside the window's own keys. moved: the keys are moved in time.
        """
        if not kept:
            return Need(name, keep=keep)
        own = max(self.tokens_of(kind) for kind, _ in self.sites)
        of_head = self.bytes_of(tokens) // self.heads
        # Attended to at once: the heads of a group, or fewer where the window's own keys are more.
        group = of_head * heads_of_group(max(of_head, self.bytes_of(own) // self.heads), self.heads)
        # The group's output, twice where attention lays it out anew. Without a feature that of all heads is there, too.
        reading = group // tokens * own
        reading += group // tokens * (tokens + own) if joined else 0
        if moved:  # keys are moved in float32, before they are joined
            reading = max(reading + group // 2, 4 * group // self.itemsize * FLOAT32_BYTES // 2)
        reading += self.group_bytes(tokens) if keep.form == EIGHT_BIT else 0
        slot = self.group_bytes(tokens, keep.form)
        return Need(name, kept, reading, SLOTS * slot + SLOTS * slot // 2, keep)  # keys and values go one by one


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
    keep: Keep = AS_MADE

    def on_card(self, place: str) -> int:
        """Return its bytes on the card where it is kept at `place`."""
        return self.reading + (self.kept if place == CARD else self.slots)

    def in_main_memory(self, place: str) -> int:
        """Return its bytes in main memory where it is kept at `place`."""
        return 0 if place == CARD else self.kept
