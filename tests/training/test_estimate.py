"""training/estimate.py: its sizes are the published ones, and its counts those of the code."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import LACT, LINEAR, MLP, OWN, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.kernels import differentiable, dispatch, first_use, reference
from longreel.training.estimate import (
    CARDS,
    CLOCKS,
    GIB,
    LAUNCHES,
    LAUNCHES_BACK_IN_TORCH,
    LAUNCHES_OF_KERNELS,
    NETWORKS,
    Network,
    chunks_of,
    cost,
    fitting,
    lact_products,
    seconds_of_video,
)
from longreel.training.stages import LAYERS, PAPER, QKVO
from tests.kernels.compile_limits import ISSUE_CLOCKS

WAN, COGVIDEOX = NETWORKS
VIEWS = (
    "view",
    "expand",
    "transpose",
    "permute",
    "split",
    "squeeze",
    "slice",
    "select.int",
    "detach",
    "alias",
    "as_strided",
    "unbind",
    "aten.t.",
)


class Launches(TorchDispatchMode):
    """Counts operations but those that launch nothing."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += not any(name in str(operation) for name in VIEWS)
        return operation(*args, **(kwargs or {}))


def test_sizes_are_the_published_ones():
    """docs/ttt.md, Parameters and Sequence lengths: of the paper's network."""
    assert COGVIDEOX.trained(MLP, LAYERS) == (1_659_895_776, 0)
    assert sum(COGVIDEOX.trained(MLP, QKVO)) == 3_245_869_536
    assert COGVIDEOX.trained(LINEAR, LAYERS) == (1_601_576_928, 0)
    assert COGVIDEOX.tokens(1) == 18_048
    assert COGVIDEOX.tokens(21) - 21 * COGVIDEOX.text_tokens == 341_550


def launches_of_a_chunk(kind: str, chunk: int) -> float:
    """What one more chunk costs, in a block that is computed again and then goes back."""
    block = TTTBlock(TTTConfig(kind, 64, 1, chunk, 0.1, rates=OWN))
    found = []
    for chunks in (32, 64) if kind != LACT else (2, 4):  # whole groups of 16; lact recomputes each by itself
        layout = even_layout(0, 1, chunks * chunk // (1 if kind == LACT else 4), 2, 2)
        x = torch.randn(1, layout.tokens, 64, requires_grad=True)
        with Launches() as launches:
            block(x, layout).sum().backward()
        found.append((chunks, launches.count))
    (few, fewer), (many, more) = found
    return (more - fewer) / (many - few)


@pytest.mark.parametrize(("kind", "chunk"), [(MLP, 64), (LINEAR, 16), (LACT, 3)])
def test_launches_are_those_of_the_scan(kind, chunk):
    assert launches_of_a_chunk(kind, chunk) == pytest.approx(LAUNCHES[kind], rel=0.05)


@pytest.fixture
def kernels(monkeypatch):
    """Kernels that stand in for themselves: what they do is not counted. By whether one goes back, too."""

    def kernel(inputs):
        with _disable_current_modes():
            return reference.scan(inputs, 0)

    def back(*given):
        with _disable_current_modes():
            return differentiable.by_reference(*given)

    def these(go_back: bool) -> None:
        monkeypatch.setattr(dispatch, "_by_triton", kernel)
        monkeypatch.setattr(dispatch, "_back_by_triton", back)
        monkeypatch.setattr(dispatch, "BACK_BYTES", 0)  # groups of 16 chunks, as of wide layers
        monkeypatch.setattr(
            dispatch,
            "_triton_obstacle",
            lambda q, state, chunk, needs_grad: "none" if needs_grad and not go_back else None,
        )
        first_use.forget()

    yield these
    first_use.forget()


@pytest.mark.parametrize(("kind", "chunk"), [(MLP, 64), (LINEAR, 16)])
def test_a_kernel_that_passes_forwards_leaves_four_fifths_of_the_launches(kind, chunk, kernels):
    kernels(go_back=False)
    assert launches_of_a_chunk(kind, chunk) == pytest.approx(LAUNCHES_BACK_IN_TORCH[kind], rel=0.05)


def test_kernels_that_go_back_leave_few(kernels):
    kernels(go_back=True)
    launches_of_a_chunk(MLP, 64)  # with what they are tried with
    assert launches_of_a_chunk(MLP, 64) == 14 / 16 < LAUNCHES_OF_KERNELS


def test_clocks_are_those_that_the_compilation_is_held_to():
    for capability, (in_turn, _) in CLOCKS[MLP].items():
        mlp, learn, back = (ISSUE_CLOCKS[kind, 64, 64][capability] for kind in ("mlp", "learn", "learn back"))
        assert in_turn == pytest.approx(2 * mlp + learn + back, rel=0.02)
    for capability, again in ((89, 1_041), (90, 437)):
        linear, back = (ISSUE_CLOCKS[kind, 64, 16][capability] for kind in ("linear", "linear back"))
        assert CLOCKS[LINEAR][capability][0] == pytest.approx(2 * linear + again + back, rel=0.05)


def test_a_step_of_wan_on_3_s_is_below_3_s_on_an_h100_and_was_22_in_plain_torch():
    with_kernels, without = (
        seconds_of_video(WAN, MLP, LAYERS, 1, CARDS[2], kernels=kernels) for kernels in (True, False)
    )
    assert sum(with_kernels.values()) < 3
    assert sum(without.values()) == pytest.approx(22, abs=0.5) and without["scan"] > 10 * with_kernels["scan"]


def test_time_is_linear_in_the_video_and_falls_with_the_card():
    for network in NETWORKS:
        short, long = (sum(seconds_of_video(network, MLP, LAYERS, segments, CARDS[3]).values()) for segments in (1, 21))
        tokens = network.tokens(21) / network.tokens(1)
        assert long / short == pytest.approx(tokens, rel=0.1)
        slow, fast = (seconds_of_video(network, MLP, QKVO, 6, card) for card in (CARDS[0], CARDS[3]))
        assert slow["products"] > 4 * fast["products"]


def test_products_of_the_papers_network_are_those_of_the_performance_notes():
    """80 TFLOP of projections and MLP, 53 of TTT's projections in both directions, 84 of attention in a layer."""
    parts = seconds_of_video(COGVIDEOX, MLP, LAYERS, 21, CARDS[3])
    layer = {name: parts[name] / COGVIDEOX.blocks * rate for name, rate in (("products", 700), ("attention", 450))}
    assert layer["products"] == pytest.approx(3 * 80 + 4 * 53, rel=0.03)
    assert layer["attention"] == pytest.approx(4.5 * 84.1, rel=0.03)


def test_lact_is_counted_in_chunks_of_frames_and_its_products_are_those_that_a_layer_computes():
    assert [chunks_of(WAN, LACT, segments) for segments in (1, 3)] == [5, 5 + 2 * 4]
    small = Network("small", "", 1024, 2048, 1, 0, 4, 0)
    block = TTTBlock(small.layer(LACT), device=torch.device("meta"))
    layout = even_layout(0, 2, 25, 2, 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        for _ in block.ttt.read(torch.empty(1, layout.tokens, 1024, device="meta"), layout):
            pass
    projections = 2 * layout.tokens * 1024 * (4 * 1024 + 3 * 2)
    assert counted.get_total_flops() - projections == lact_products(small, 2)


def test_training_lact_takes_a_fraction_of_the_scan_of_ttt_mlp_in_plain_torch():
    mlp, lact = (seconds_of_video(WAN, kind, LAYERS, 1, CARDS[3], kernels=False) for kind in (MLP, LACT))
    assert lact["scan"] < mlp["scan"] / 8 and lact["products"] == mlp["products"]


def test_training_more_takes_more_and_a_larger_card_holds_more():
    for network in NETWORKS:
        assert cost(network, MLP, QKVO, 3).weight_bytes > cost(network, MLP, LAYERS, 3).weight_bytes
        held = [len(fitting(network, MLP, LAYERS, PAPER[MLP], card)) for card in CARDS]
        assert held == sorted(held) and held[-1] > held[0]
    assert cost(WAN, MLP, LAYERS, 21).video_bytes == pytest.approx(
        WAN.tokens(21) / WAN.tokens(1) * cost(WAN, MLP, LAYERS, 1).video_bytes, abs=1
    )
    assert cost(WAN, MLP, LAYERS, 1).bytes < 24 * GIB


def test_an_adapter_that_is_not_estimated_is_refused():
    with pytest.raises(ValueError, match="adapter 'sft' cannot be estimated"):
        cost(WAN, MLP, "sft", 1)


def test_processes_divide_weights_and_no_video():
    for network in NETWORKS:
        one, eight = (cost(network, MLP, QKVO, 3, processes) for processes in (1, 8))
        assert eight.video_bytes == one.video_bytes
        assert one.weight_bytes / 8 < eight.weight_bytes < one.weight_bytes / 4  # and two blocks' weights, whole
    held = [len(fitting(COGVIDEOX, MLP, QKVO, PAPER[MLP], CARDS[2], processes)) for processes in (1, 8)]
    assert held[1] > held[0]


def test_no_processes_are_refused():
    with pytest.raises(ValueError, match="processes is 0; use 1 or more"):
        cost(WAN, MLP, LAYERS, 1, 0)
