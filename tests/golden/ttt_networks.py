"""ttt/block_, tlayer_, dit_: the recorded tiny networks as ComfyUI's own CogVideoX classes with the pack's TTT blocks.

Only names, shapes and sizes are handed over here. The recorded code's settings that are not ComfyUI's are set: the eps
of its norms, and positions that count 0, 1, 2.
"""

import torch

from longreel.engine.attention.rotary import grid_angles
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.order import Layout, even_layout
from longreel.engine.ttt.published import block_weights, network_weights
from longreel.engine.ttt.weights import check_weights, config_of, from_published
from longreel.hosts import keys
from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.ops
from comfy.ldm.cogvideo.model import CogVideoXBlock, CogVideoXTransformer3DModel
from comfy.patcher_extension import WrappersMP, add_wrapper
from comfy.utils import set_attr

from longreel.hosts.ttt import cogvideox_block as cogvideox_ttt
from longreel.hosts.ttt import forward as ttt_forward
from longreel.hosts.ttt.cogvideox import papers_numbers

Tensors = dict[str, torch.Tensor]
PLAIN = comfy.ops.disable_weight_init


@torch.no_grad()
def block(tensors: Tensors, meta: dict) -> Tensors:
    """Attention within segments and TTT, no norms and no MLP around them."""
    weights = {f"seq_modeling_block.{name}": value for name, value in part_of(tensors, "sd.").items()}
    layout, network = layout_of(meta), block_of(weights, meta, strict=False)
    mixed = cogvideox_ttt.mix_tokens(
        network,
        ttt_of(weights, meta),
        layout,
        tensors["vid"],
        tensors["text"],
        rotary_of(layout, meta),
        None,
        None,
        lambda video, text: (video, text),
    )
    return {"out_vid_last_eta": mixed[:, layout.text_tokens :], "out_text_last_eta": mixed[:, : layout.text_tokens]}


@torch.no_grad()
def layer(tensors: Tensors, meta: dict) -> Tensors:
    weights, layout = part_of(tensors, "sd."), layout_of(meta)
    video, text = cogvideox_ttt.evaluate_block(
        block_of(weights, meta),
        ttt_of(weights, meta),
        layout,
        tensors["vid"],
        tensors["text"],
        tensors["t_emb"],
        rotary_of(layout, meta),
    )
    return {"out_vid_last_eta": video, "out_text_last_eta": text}


@torch.no_grad()
def network(tensors: Tensors, meta: dict) -> Tensors:
    weights, layout, layers = part_of(tensors, "dit."), layout_of(meta), meta["num_layers"]
    network = CogVideoXTransformer3DModel(
        num_attention_heads=meta["num_heads"],
        attention_head_dim=meta["head_dim"],
        in_channels=meta["in_channels"],
        out_channels=meta["in_channels"],
        time_embed_dim=meta["time_embed_dim"],
        text_embed_dim=meta["text_dim"],
        num_layers=layers,
        patch_size=meta["patch_size"],
        use_rotary_positional_embeddings=True,
        spatial_interpolation_scale=1.0,
        dtype=torch.float32,
        operations=PLAIN,
    )
    network.load_state_dict(network_weights(weights, layers))
    for path, value in papers_numbers(network):
        set_attr(network, path, value)
    ttt = {number: ttt_of(part_of(weights, f"layers.{number}."), meta) for number in range(layers)}
    options = {keys.TTT_LAYERS: ttt}
    add_wrapper(WrappersMP.DIFFUSION_MODEL, ttt_forward.evaluate, options)
    segment_info = ttt_forward.SegmentInfo(layout.windows, layout.text_lengths)
    out = network(
        tensors["video"].transpose(1, 2),
        tensors["timesteps"],
        tensors["text"].flatten(1, 2),
        transformer_options=options,
        **{keys.TTT_SEGMENT_INFO: segment_info},
    )
    return {"out_last_eta": out.transpose(1, 2)}


def part_of(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def layout_of(meta: dict) -> Layout:
    segments = meta["num_chunks"]
    return even_layout(
        meta["text_length"], segments, meta["frames"], meta["latent_height_tokens"], meta["latent_width_tokens"]
    )


def block_of(weights: Tensors, meta: dict, strict: bool = True) -> CogVideoXBlock:
    width, eps = meta["model_dim"], cogvideox_ttt.LAYER_NORM_EPS
    network = CogVideoXBlock(
        width,
        meta["num_heads"],
        meta["head_dim"],
        meta["time_embed_dim"],
        eps=eps,
        dtype=torch.float32,
        operations=PLAIN,
    )
    network.load_state_dict(block_weights(weights), strict=strict)
    return network


def ttt_of(weights: Tensors, meta: dict) -> TTTBlock:
    weights = from_published(part_of(weights, "seq_modeling_block."))
    ttt = TTTBlock(config_of(weights, meta["mini_batch_size"], meta["ttt_base_lr"], norm_eps=1e-8))
    check_weights(ttt, weights)
    ttt.load_state_dict(weights)
    return ttt


def rotary_of(layout: Layout, meta: dict) -> cogvideox_ttt.Rotary:
    """As CogVideoXTransformer3DModel._get_rotary_emb makes it."""
    positions = torch.arange(layout.frames * layout.frame_tokens)
    angles = grid_angles(positions, layout.height, layout.width, meta["head_dim"]).repeat_interleave(2, dim=1)
    return angles.cos(), angles.sin()
