"""Read the names in ttt-video's checkpoints: which tensor belongs to which block, and which to core's CogVideoX.

Source: the public code of One-Minute Video Generation with Test-Time Training (arXiv 2504.05298). Its network is
CogVideoX with TTT layers inside `layers.N.seq_modeling_block`. All other tensors are core's under other names, with
equal shapes (comfy/ldm/cogvideo/model.py). Names of TTT's own tensors: engine/ttt/weights.py. Files are not known here.
"""

import re
from collections.abc import Iterable, Mapping

import torch

from .weights import Value, from_published

FAMILY = "CogVideoX"  # engine/plan/facts.ModelFacts.family
SEGMENT_LATENT_FRAMES = 13
PREFIX = re.compile(r"(model\.)?(dit\.)?")  # a training run's own, the network's
IN_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
ATTENTION = "seq_modeling_block."
OF_BLOCK = {  # start of a name in the public code's block: core's
    "pre_seq_layernorm.": "norm1.norm.",
    "pre_seq_adaLN_modulation.1.": "norm1.linear.",
    "pre_mlp_layernorm.": "norm2.norm.",
    "pre_mlp_adaLN_modulation.1.": "norm2.linear.",
    "seq_modeling_block.q.": "q.",
    "seq_modeling_block.k.": "k.",
    "seq_modeling_block.v.": "v.",
    "seq_modeling_block.o.": "attn_out.",
    "seq_modeling_block.q_norm.": "norm_q.",
    "seq_modeling_block.k_norm.": "norm_k.",
    "mlp.layer1.": "ff_proj.",
    "mlp.layer2.": "ff_out.",
}
OF_NETWORK = {  # start of a name in the public code's network: core's; blocks are `layers.N.` and `blocks.N.`
    "patch_embedding.vid_proj.": "patch_embed.proj.",
    "patch_embedding.text_proj.": "patch_embed.text_proj.",
    "time_embed.0.": "time_embedding_linear_1.",
    "time_embed.2.": "time_embedding_linear_2.",
    "transformer_norm.": "norm_final.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
    "final_layer.norm.": "norm_out.norm.",
    "final_layer.linear.": "proj_out.",
}


def block_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of one `layers.N` of the public code under the names of core's block, without TTT's."""
    return _renamed(weights, OF_BLOCK)


def network_weights(weights: Mapping[str, Value], layers: int) -> dict[str, Value]:
    """Return the weights of the public code's network of so many layers under core's names, without TTT's."""
    named = {f"layers.{i}.{start}": f"blocks.{i}.{own}" for i in range(layers) for start, own in OF_BLOCK.items()}
    return _renamed(weights, OF_NETWORK | named)


def ttt_layers(weights: Mapping[str, Value]) -> dict[int, dict[str, Value]]:
    """Return each block's TTT weights under the pack's names, from a checkpoint's names; blocks without any are left
    out.
    """
    found: dict[int, dict[str, Value]] = {}
    for name, value in weights.items():
        if (match := IN_LAYER.fullmatch(without_prefix(name))) and match[2].startswith(ATTENTION):
            own = from_published({match[2].removeprefix(ATTENTION): value})
            if own:
                found.setdefault(int(match[1]), {}).update(own)
    return dict(sorted(found.items()))


def without_prefix(name: str) -> str:
    """Return a checkpoint's name as the network itself has it: published weights stand below `dit.`, those of a
    training run below `model.dit.`.
    """
    return PREFIX.sub("", name, count=1)  # it fits every start, if only with nothing


def layer_count(names: Iterable[str]) -> int:
    """Return how many layers of the network a checkpoint's names speak of."""
    return 1 + max((int(match[1]) for name in names if (match := IN_LAYER.fullmatch(without_prefix(name)))), default=-1)


def _renamed(weights: Mapping[str, Value], starts: Mapping[str, str]) -> dict[str, Value]:
    return {
        own + name.removeprefix(start): value
        for name, value in weights.items()
        for start, own in starts.items()
        if name.startswith(start)
    }
