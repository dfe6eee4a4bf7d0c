"""hosts/ttt/cogvideox_block.py: core's block where TTT is shut, local in its attention, global through TTT."""

from functools import partial

import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.ops
from comfy.ldm.cogvideo.model import CogVideoXBlock, CogVideoXTransformer3DModel

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import MLP, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.engine.ttt.published import OF_BLOCK, block_weights
from longreel.hosts.ttt.cogvideox_block import LAYER_NORM_EPS, evaluate_block, norms_of
from tests.engine.ttt_cases import make_block
from tests.live_bytes import LiveBytes

WIDTH, HEADS, TIME = 32, 2, 8
PLAIN = comfy.ops.disable_weight_init


def make_network() -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    network = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=4,
        out_channels=4,
        time_embed_dim=TIME,
        text_embed_dim=6,
        num_layers=2,
        use_rotary_positional_embeddings=True,
        dtype=torch.float32,
        operations=PLAIN,
    )
    for name, value in network.named_parameters():
        torch.nn.init.normal_(value, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.2)
    return network.requires_grad_(False)


def inputs(layout, batch: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, layout.tokens - layout.text_tokens, WIDTH, generator=generator),
        "encoder_hidden_states": torch.randn(batch, layout.text_tokens, WIDTH, generator=generator),
        "temb": torch.randn(batch, TIME, generator=generator),
    }


@torch.no_grad()
def test_one_segment_with_shut_gates_is_cores_block():
    network, layout = make_network(), even_layout(text_tokens=3, segments=1, frames=4, height=2, width=3)
    rotary = network._get_rotary_emb(2, 3, 4, torch.device("cpu"))
    ttt, block = TTTBlock(TTTConfig(MLP, WIDTH, HEADS, 4, 0.1)), network.blocks[0]
    arguments = {**inputs(layout, batch=2), "image_rotary_emb": rotary}
    for got, expected in zip(evaluate_block(block, ttt, layout, **arguments), block(**arguments), strict=False):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_whole_network_runs_with_its_blocks_replaced():
    network, layout = make_network(), even_layout(text_tokens=3, segments=1, frames=3, height=2, width=2)
    x, timestep, context = torch.randn(1, 4, 3, 4, 4), torch.tensor([500.0]), torch.randn(1, 3, 6)
    expected = network(x, timestep, context)
    for block in network.blocks:
        block.forward = partial(evaluate_block, block, TTTBlock(TTTConfig(MLP, WIDTH, HEADS, 4, 0.1)), layout)
    torch.testing.assert_close(network(x, timestep, context), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_segments_meet_in_ttt_alone():
    network, layout = make_network(), even_layout(text_tokens=3, segments=3, frames=7, height=2, width=2)
    before = inputs(layout)
    after = {**before, "encoder_hidden_states": before["encoder_hidden_states"].clone()}
    after["encoder_hidden_states"][:, :3] += 1  # the first segment's text
    shut, trained = TTTBlock(TTTConfig(MLP, WIDTH, HEADS, 4, 0.1)), make_block(MLP)
    far = slice(3 * layout.frame_tokens, None)  # frames that the first segment does not see
    for ttt, meets in ((shut, False), (trained, True)):
        video, changed = (evaluate_block(network.blocks[0], ttt, layout, **given)[0] for given in (before, after))
        assert (video[:, far] != changed[:, far]).any().item() is meets
        assert (video[:, : far.start] != changed[:, : far.start]).any()


def test_the_inputs_are_left_as_they_are_and_gradients_change_nothing():
    network, layout = make_network(), even_layout(text_tokens=3, segments=2, frames=5, height=2, width=2)
    given, ttt = inputs(layout), make_block(MLP)
    kept = {name: value.clone() for name, value in given.items()}
    recorded = evaluate_block(network.blocks[0], ttt, layout, **given)
    with torch.no_grad():
        plain = evaluate_block(network.blocks[0], ttt, layout, **given, slab_tokens=8)
    assert all(torch.equal(given[name], value) for name, value in kept.items())
    for got, expected in zip(plain, recorded, strict=False):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    sum(part.square().sum() for part in recorded).backward()
    assert all(value.grad.abs().max() > 0 for value in ttt.parameters())


@torch.no_grad()
def test_memory_is_the_attentions_output_and_one_segment():
    network, ttt, beyond = make_network(), make_block(MLP, chunk=16), []
    for segments in (3, 12):
        layout = even_layout(text_tokens=6, segments=segments, frames=4 * segments + 1, height=4, width=8)
        given = inputs(layout)
        held = sum(value.nbytes for value in given.values())
        with LiveBytes(*given.values(), *network.parameters(), *ttt.parameters()) as memory:
            evaluate_block(network.blocks[0], ttt, layout, **given, slab_tokens=128)
        beyond.append(memory.peak - held)  # the attention's output is as large as the input
    assert beyond[1] < 1.2 * beyond[0]


@torch.no_grad()
def test_published_names_fill_cores_block_and_nothing_else():
    block = CogVideoXBlock(WIDTH, HEADS, WIDTH // HEADS, TIME, dtype=torch.float32, operations=PLAIN)
    published = {
        start + name.removeprefix(own): value
        for name, value in block.state_dict().items()
        for start, own in OF_BLOCK.items()
        if name.startswith(own)
    }
    assert len(published) == len(block.state_dict())
    gate = "seq_modeling_block.forward_ssm_gating_text.gating_alpha"
    ttt = {"seq_modeling_block.ssm.ttt.W1": torch.zeros(1), gate: torch.zeros(1)}
    assert set(block_weights({**published, **ttt})) == set(block.state_dict())


def test_the_papers_norms_are_all_but_those_of_queries_and_keys():
    network = make_network()
    for norm in norms_of(network):
        norm.eps = LAYER_NORM_EPS
    eps = {name: module.eps for name, module in network.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    assert len(eps) == 2 * 4 + 2 and set(eps.values()) == {1e-6}
