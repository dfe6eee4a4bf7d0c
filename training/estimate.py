"""Estimate what training TTT layers of a real network would take: memory and time by a model, for cards that were not
at hand.

Nothing here was timed on a GPU. The rates of products and attention, the price of a kernel's launch, and how much of
the time a kernel issues instructions, are assumed: 700 and 450 TFLOP/s of an H100 or H200, other cards by their data
sheets, 5 microseconds, a third. The sizes are the networks'. Counted, and not guessed, are the bytes that a block holds
while it is recomputed (on a tiny Wan in bfloat16, every storage followed), what a chunk launches forward and backward,
and the instructions of the kernels, in their assembly. Where no kernel serves, plain torch launches something for every
product of every chunk, which is most of the time; LaCT's chunks are large, so there it is launches and products, and
its bytes are taken to be those of TTT-MLP.

The plan of a run (training/plan.py) measures instead; this is for choosing card and stage before there is a run.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..engine.ttt.block import TTTBlock
from ..engine.ttt.layer import LACT, LINEAR, MLP, OWN, TTTConfig
from ..engine.ttt.weights import HEAD_WIDTH as HEAD_WIDTHS
from ..engine.ttt.weights import PUBLISHED_BASE_RATE, PUBLISHED_CHUNK
from ..kernels.lact import COEFFICIENTS
from .stages import LAYERS, QKVO, Stage

GIB = 2**30
SEGMENT_LATENT_FRAMES, HEAD_WIDTH = 13, 64
STATE_BYTES = 20  # of a number that is trained, in float32: itself, its gradient, two moments, the average
FROZEN_BYTES = 2  # of one that is not
GATHERED_BLOCKS = 2  # whose weights are whole at a time where processes divide them: the one in use, and the next
KEPT_BYTES = 2  # of each token and channel, between two blocks
# The same within a block in the backward pass: 198 where its MLP is twice as wide as the block.
BLOCK_BYTES, BLOCK_BYTES_OF_WIDENING = 186, 6
# Of a chunk in a block: recomputed, and backward, in both directions. In plain torch; where a kernel passes forwards
# alone; and where kernels go back, too: 14 for each group of 16 chunks, and at most 30 by the kernels' own launcher.
LAUNCHES = {MLP: 444, LINEAR: 278, LACT: 1008}
LAUNCHES_BACK_IN_TORCH = {MLP: 365, LINEAR: 221}  # as with heads of 128, and in float32
LAUNCHES_OF_KERNELS = 2.75
LAUNCH_SECONDS = 5e-6
# Clocks to issue a chunk of a head in bfloat16, by compute capability x 10: from chunk to chunk (forwards twice,
# learned again, back), and for all chunks at once (TTT-MLP's reading goes back). Counted by
# tests/kernels/offline_compile.py.
CLOCKS = {
    MLP: {89: (2 * 9_512 + 7_004 + 23_900, 11_282), 90: (2 * 7_130 + 4_996 + 19_393, 10_300)},
    LINEAR: {89: (2 * 695 + 1_041 + 4_228, 0), 90: (2 * 600 + 437 + 1_394, 0)},
}
CLOCKS_FOR_AN_ISSUE = 3.0
USABLE = 0.92  # of a card; the rest is CUDA's own and what does not fit together
SCAN_THERE_AND_BACK = 5  # forward, again in its block, again by itself, back to tokens and to fast weights
THERE_AND_BACK = {True: 4, False: 3}  # forward, again, back to the input, and to the weights where they are trained
ATTENTION_THERE_AND_BACK = 4.5  # attention's backward pass is 2.5 times the forward pass


@dataclass(frozen=True)
class Network:
    """This is the network's size. width: channels. mlp_width: channels within a block's MLP. frame_tokens: of a latent
    frame at `size`. text_tokens: of a segment, joined to its video; 0 where text is read by cross attention.
    """

    name: str
    size: str
    width: int
    mlp_width: int
    blocks: int
    parameters: int
    frame_tokens: int
    text_tokens: int

    def tokens(self, segments: int) -> int:
        return (segments * (SEGMENT_LATENT_FRAMES - 1) + 1) * self.frame_tokens + segments * self.text_tokens

    def layer(self, kind: str) -> TTTConfig:
        return TTTConfig(
            kind,
            self.width,
            self.width // HEAD_WIDTHS[kind],
            PUBLISHED_CHUNK[kind],
            PUBLISHED_BASE_RATE[kind],
            rates=OWN,
        )

    def trained(self, kind: str, adapter: str) -> tuple[int, int]:
        """Return how many numbers in (TTT layers with gates, attention's projections and norms) an adapter
        trains.
        """
        block = TTTBlock(self.layer(kind), device=torch.device("meta"))
        norms = 2 * (self.width if not self.text_tokens else 2 * HEAD_WIDTH)
        attention = 4 * (self.width**2 + self.width) + norms
        own = self.blocks * sum(parameter.numel() for parameter in block.parameters())
        return own, self.blocks * attention * (adapter == QKVO)


@dataclass(frozen=True)
class Card:
    """This is what a card can do. product_rate, attention_rate: FLOP in a second that large products in bfloat16 reach,
    and attention. capability: times 10, of those of `CLOCKS`. clock_rate: clocks in a second.
    """

    name: str
    gib: int
    product_rate: float
    attention_rate: float
    capability: int
    multiprocessors: int
    clock_rate: float


@dataclass(frozen=True)
class Cost:
    """This is the cost of one video, forward and backward, one at a time, in each process. Bytes: weights and what
    training keeps of them; of the video.
    """

    tokens: int
    weight_bytes: int
    video_bytes: int

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.video_bytes


NETWORKS = (
    Network("Wan 2.1 1.3B", "832x480", 1536, 8960, 30, 1_418_996_800, 52 * 30, 0),
    Network("CogVideoX-5B", "720x480", 3072, 12288, 42, 5_570_283_072, 45 * 30, 498),
)
CARDS = (
    Card("24 GB (RTX 4090)", 24, 140e12, 90e12, 89, 128, 2.52e9),
    Card("48 GB (L40S)", 48, 150e12, 95e12, 89, 142, 2.52e9),
    Card("80 GB (H100)", 80, 700e12, 450e12, 90, 132, 1.755e9),
    Card("141 GB (H200)", 141, 700e12, 450e12, 90, 132, 1.755e9),
)


def cost(network: Network, kind: str, adapter: str, segments: int, processes: int = 1) -> Cost:
    """Return the cost of a stage's video. adapter: LAYERS or QKVO. Blocks are recomputed in the backward pass, and of
    the scan every 16th state is kept. Several processes divide weights and state (training/shards.py), and no video.

    Raises ValueError for another adapter, and fewer than one process.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}; use 1 or more")
    if adapter not in (LAYERS, QKVO):
        raise ValueError(f"adapter {adapter!r} cannot be estimated; use {LAYERS} or {QKVO}")
    own, attention = network.trained(kind, adapter)
    weights = STATE_BYTES * (own + attention) + FROZEN_BYTES * (network.parameters - attention)
    if processes > 1:
        weights = weights // processes + GATHERED_BLOCKS * FROZEN_BYTES * (network.parameters + own) // network.blocks
    tokens = network.tokens(segments)
    block = BLOCK_BYTES + BLOCK_BYTES_OF_WIDENING * network.mlp_width / network.width
    return Cost(tokens, weights, round(tokens * network.width * (network.blocks * KEPT_BYTES + block)))


def seconds_of_video(
    network: Network, kind: str, adapter: str, segments: int, card: Card, kernels: bool = True
) -> dict[str, float]:
    """Return the seconds of one video forward and backward: {"products", "attention", "scan"}.

    kernels: whether they serve, else plain torch.
    """
    tokens, C = network.tokens(segments), network.width
    attention_products = 2 * 4 * C**2 * tokens
    mlp_products = 2 * 2 * C * network.mlp_width * tokens
    cross_products = 0 if network.text_tokens else 2 * 2 * C**2 * tokens  # of its keys and values there are few
    ttt_products = 2 * attention_products  # both directions
    products = network.blocks * (
        attention_products * THERE_AND_BACK[adapter == QKVO]
        + ttt_products * THERE_AND_BACK[True]
        + (mlp_products + cross_products) * THERE_AND_BACK[False]
    )
    seen = SEGMENT_LATENT_FRAMES * network.frame_tokens + network.text_tokens
    attention = network.blocks * segments * 4 * seen**2 * C * ATTENTION_THERE_AND_BACK
    chunks = chunks_of(network, kind, segments)
    scan = network.blocks * chunks * _seconds_of_chunk(network, kind, card, kernels)
    if kind == LACT:
        scan += SCAN_THERE_AND_BACK * network.blocks * 2 * lact_products(network, segments) / card.product_rate
    return {"products": products / card.product_rate, "attention": attention / card.attention_rate, "scan": scan}


def chunks_of(network: Network, kind: str, segments: int) -> int:
    """Return the chunks of a video in one direction."""
    if kind != LACT:
        return -(-network.tokens(segments) // PUBLISHED_CHUNK[kind])
    first, later = (
        -(-frames // PUBLISHED_CHUNK[kind]) for frames in (SEGMENT_LATENT_FRAMES, SEGMENT_LATENT_FRAMES - 1)
    )
    return first + (segments - 1) * later


def lact_products(network: Network, segments: int) -> int:
    """Return the FLOP of a block's fast weights in one direction: three products with keys, three with gradients and
    three with queries for each token, and Newton-Schulz for each chunk.
    """
    config = network.layer(LACT)
    D, M = config.head_width, config.hidden
    of_token = 9 * 2 * D * M
    of_chunk = 3 * len(COEFFICIENTS) * 2 * (D * M * D + D * D * D + D * D * M)
    return config.heads * (network.tokens(segments) * of_token + chunks_of(network, LACT, segments) * of_chunk)


def _seconds_of_chunk(network: Network, kind: str, card: Card, kernels: bool) -> float:
    """Return the seconds of a chunk in a block, forward and backward in both directions."""
    if kind == LACT or not kernels:
        return LAUNCHES[kind] * LAUNCH_SECONDS
    heads = network.width // HEAD_WIDTH
    in_turn, at_once = CLOCKS[kind][card.capability]
    clocks = in_turn * -(-heads // card.multiprocessors) + at_once * heads / card.multiprocessors
    return 2 * CLOCKS_FOR_AN_ISSUE * clocks / card.clock_rate + LAUNCHES_OF_KERNELS * LAUNCH_SECONDS


def fitting(
    network: Network, kind: str, adapter: str, stages: Iterable[Stage], card: Card, processes: int = 1
) -> list[Stage]:
    """Return the stages whose videos fit a card, one at a time, where each process has one."""
    return [
        stage
        for stage in stages
        if cost(network, kind, adapter, stage.segments, processes).bytes <= USABLE * card.gib * GIB
    ]
