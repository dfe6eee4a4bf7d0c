"""Layouts and tiny layers for the tests of the TTT files."""

import torch
from hypothesis import strategies as st

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import LINEAR, MLP, TTTConfig
from longreel.engine.ttt.order import Layout, Run, even_layout

KINDS = (LINEAR, MLP)
CHUNK = 4
WIDTH, HEADS = 32, 2
THREE_SEGMENTS = even_layout(
    text_tokens=3, segments=3, frames=7, height=2, width=2
)  # 37 tokens: no multiple of 4 anywhere
ALIGNED = even_layout(text_tokens=4, segments=2, frames=5, height=2, width=2)  # 28 tokens


def tokens(runs: list[Run]) -> list[int]:
    """The joined tokens as they are read."""
    return [
        token
        for run in runs
        for token in (range(run.stop - 1, run.start - 1, -1) if run.backwards else range(run.start, run.stop))
    ]


@st.composite
def layouts(draw) -> Layout:
    """Any: texts of 0 to 5 tokens, windows that overlap by 0 or more frames, any frames in front of some."""
    windows = [(0, draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(windows[-1][0] + 1, windows[-1][1]))
        windows.append((start, draw(st.integers(windows[-1][1] + 1, windows[-1][1] + 3))))
    text = draw(st.lists(st.integers(0, 5), min_size=len(windows), max_size=len(windows)))
    lead = st.lists(st.integers(0, windows[-1][1] - 1), max_size=2).map(tuple)
    leads = tuple(draw(lead) for _ in windows) if draw(st.booleans()) else ()
    return Layout(tuple(text), tuple(windows), draw(st.integers(1, 2)), draw(st.integers(1, 3)), leads)


def make_block(kind: str, seed: int = 0, chunk: int = CHUNK, base_rate: float = 8.0, **more) -> TTTBlock:
    """Every parameter random and the learning rate high, so that nothing hides."""
    torch.manual_seed(seed)
    block = TTTBlock(TTTConfig(kind, WIDTH, HEADS, chunk, base_rate, **more))
    for name, value in block.named_parameters():
        torch.nn.init.normal_(value, mean=1.0 if name.endswith("norm_weight") else 0.0, std=0.2)
    return block


def tokens_like(layout: Layout, batch: int = 1, width: int = WIDTH, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, layout.tokens, width, generator=torch.Generator().manual_seed(seed))
