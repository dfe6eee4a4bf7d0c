"""A MODEL with TTT layers as the trainer's student: it predicts a whole story, segment by segment, with gradients.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, sections 2.3 and 3.1). What it computes
is what Longreel TTT Sampler evaluates at one step (hosts/ttt/timeline.py, hosts/ttt/forward.py), by core's own network.
The student's network and layers are copies (hosts/training/network.py): the model that it was made from does not
change. What is trained is kept in float32 and cast where it is used; all else stays as its file stores it.

Several processes may divide the weights (training/shards.py), the frozen ones too: around the network and each of its
blocks then stands a unit (engine/ttt/units.py), by whose calls it is known when they are needed. Core's modules stay as
they are, and the units stand outside of what is patched and recomputed.

Which numbers are drawn, losses, steps and files are the trainer's (training/).
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

import comfy.conds
import comfy.ops
from comfy.model_patcher import ModelPatcher

from ...engine.runs.whole_file import save_whole
from ...engine.ttt.block import TTTBlock
from ...engine.ttt.files import LoadedTTT, save_ttt
from ...engine.ttt.layer import TTTConfig
from ...engine.ttt.order import Layout, Range
from ...engine.ttt.units import Unit
from .. import keys
from ..attention import patching
from ..families import block_count
from ..families.sites import token_grid
from ..prompts.conditioning import FRAME_RATE
from ..training.encoder import MASK, POOLED, TEXT, TOKENS
from ..training.gradients import training
from ..training.network import NetworkStudent, make_room
from ..training.weights_digest import digest
from .forward import SegmentInfo, segments_of, token_windows

TTT, OTHERS = "ttt", "others"  # groups of parameters, as in training/student.py
LAYERS, PROJECTIONS, ALL = "ttt", "qkvo", "sft"  # what may be trained: the layers, attention too, everything
PUBLISHED_START_GATE = 0.1
TEXT_GATES = ("forward_text", "backward_text")


class TTTStudent(NetworkStudent):
    """training/student.Student, of a ModelPatcher that hosts/ttt/apply.apply gave TTT layers.

    dtype: in which the network computes; bfloat16 or float32. start_gate: what gates that are shut (0, as in new
    layers) open to, for a shut gate lets no gradient through to its layer; as published 0.1. lead_frames: latent frames
    in front of each segment that its attention looks at too, as Longreel TTT Sampler has it; as published 0.

    Raises ValueError for a model without layers, a loader that cannot load it again, nodes that work between segments,
    and noise schedules that are neither flow matching nor CogVideoX's.
    """

    def __init__(
        self,
        model: ModelPatcher,
        dtype: torch.dtype = torch.bfloat16,
        start_gate: float = PUBLISHED_START_GATE,
        lead_frames: int = 0,
    ):
        """Copy the layers of `model`, and read its network again."""
        layers = _layers_to_train(model)
        self.segments, self.lead_frames = segments_of(model), lead_frames
        super().__init__(model, dtype, partial(self._copy_layers, layers, start_gate))
        self.whole: Unit | None = None
        self.identity = (
            f"{self.facts.family} {digest(self.network.state_dict())} {self.config} {digest(self._layer_weights())}"
            + (f" lead {lead_frames}" if lead_frames else "")
        )

    def _copy_layers(self, layers: Mapping[int, TTTBlock], start_gate: float) -> None:
        """Put copies in float32 in the place of the model's layers."""
        self.patcher.set_additional_models(keys.TTT_LAYERS, [])
        self.layers = {number: _trainable(layer, start_gate).to(self.device) for number, layer in layers.items()}
        self.options[keys.TTT_LAYERS] = self.layers

    @property
    def config(self) -> TTTConfig:
        """Of all layers."""
        return next(iter(self.layers.values())).ttt.config

    def parameters_of(self, adapter: str) -> dict[str, dict[str, nn.Parameter]]:
        """{TTT: ..., OTHERS: ...} by name. adapter: "ttt" for the layers alone, "qkvo" for the projections and norms of
        their attention too, "sft" for the whole network. They require gradients and are float32 afterwards."""
        if adapter not in (LAYERS, PROJECTIONS, ALL):
            raise ValueError(f"unknown adapter {adapter!r}; use {LAYERS!r}, {PROJECTIONS!r} or {ALL!r}")
        others = (
            {}
            if adapter == LAYERS
            else {
                name: parameter
                for name, parameter in self.network.named_parameters()
                if adapter == ALL or name in self._attention()
            }
        )
        for name, parameter in others.items():
            if not parameter.is_floating_point():
                raise ValueError(
                    f"{name} is stored as {parameter.dtype} and is to be trained as torch.float32; load "
                    f"a file that is not quantised, or train the TTT layers alone"
                )
        own = self._ttt_parameters()
        for part in (self.network, *self.layers.values()):
            part.requires_grad_(False)
        for parameter in own.values():
            parameter.requires_grad_(True)
        for parameter in others.values():
            if parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        return {TTT: own, OTHERS: others}

    def _ttt_parameters(self) -> dict[str, nn.Parameter]:
        """Where no text is joined to the video, its gates do nothing and are not trained."""
        return {
            f"blocks.{number}.{name}": parameter
            for number, layer in self.layers.items()
            for name, parameter in layer.named_parameters()
            if self.segments.joint or name not in TEXT_GATES
        }

    def _attention(self) -> set[str]:
        """Names of the parameters of self-attention, in blocks that have TTT."""
        blocks = self.segments.family.blocks(self.network)
        wanted = {
            id(parameter)
            for number in self.layers
            for part in self.segments.attention
            if hasattr(blocks[number], part)
            for parameter in getattr(blocks[number], part).parameters()
        }
        return {name for name, parameter in self.network.named_parameters() if id(parameter) in wanted}

    def units(self) -> Unit:
        """See training/student.Student. A block of core's and its TTT layer are one unit; what else the network holds
        is the outermost."""
        blocks = self.segments.family.blocks(self.network)
        self.options[keys.TTT_UNITS] = {
            number: Unit([block, self.layers[number]] if number in self.layers else [block])
            for number, block in enumerate(blocks)
        }
        self.whole = Unit([self.network], self.options[keys.TTT_UNITS].values())
        return self.whole

    def checkpoint(self, scan_chunks: int, blocks: bool) -> None:
        """See training/student.Student. The blocks of LTXV and HunyuanVideo are always recomputed: they write into
        what gradients need."""
        for layer in self.layers.values():
            layer.ttt.checkpoint_every = scan_chunks
        self.options[keys.TTT_RECOMPUTE] = blocks

    def layout(
        self,
        latent_shape: tuple[int, int, int, int],
        conditioning: Mapping[str, torch.Tensor],
        windows: tuple[Range, ...],
    ) -> Layout:
        """How TTT reads a story whose latent is [C, F, H, W]. Raises ValueError as engine/ttt/order.Layout does."""
        patches = self.segments.family.patch_size(self.network)
        _, height, width = token_grid(latent_shape[1:], patches)
        texts = conditioning[TOKENS][0].tolist() if self.segments.joint else [0] * len(windows)
        return Layout(tuple(texts), token_windows(windows, patches[0]), height, width)

    def predict(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        windows: tuple[Range, ...],
    ) -> torch.Tensor:
        """Return what the network says of a batch: noised [B, C, F, H, W], levels [B] of the objective, conditioning
        [B, n, ...] as hosts/training/encoder.py encodes prompts, with the clips' frame rate [B, n] where the family is
        told one, windows: latent frames of each segment -> float32 like noised, for the objective's target.

        Raises ValueError where this network cannot be evaluated in so many segments, and core's exception when the
        user interrupts.
        """
        self.segments.refuse(self.network, len(windows))
        if torch.is_grad_enabled():
            make_room(self.device)
        noised = self.leaf(noised)
        alike = all(
            bool((conditioning[name] == conditioning[name][:1]).all())
            for name in (TOKENS, FRAME_RATE)
            if name in conditioning
        )
        if self.whole is None and alike:
            return self._predict(noised, levels, conditioning, windows)
        # Texts are joined to the video, or to each other, where one ends and the next begins, and a network is told one
        # frame rate: row by row. Processes that divide the weights do so always, for all must evaluate equally often.
        evaluate = self._predict if self.whole is None else partial(self.whole, self._predict)
        rows = [
            evaluate(
                noised[row : row + 1],
                levels[row : row + 1],
                {name: part[row : row + 1] for name, part in conditioning.items()},
                windows,
            )
            for row in range(len(noised))
        ]
        return torch.cat(rows)

    def _predict(self, noised, levels, conditioning, windows) -> torch.Tensor:
        text_lengths = tuple(conditioning[TOKENS][0].tolist())

        def joined(name: str) -> torch.Tensor:
            """[B, n, T, ...] -> [B, all texts, ...], without what the texts were filled up with."""
            parts = [part[:, :count] for part, count in zip(conditioning[name].unbind(1), text_lengths, strict=True)]
            return torch.cat(parts, dim=1).to(self.device)

        prompts = {"cross_attn": joined(TEXT)}
        if MASK in conditioning:
            prompts[MASK] = joined(MASK)
        if POOLED in conditioning:
            prompts[POOLED] = conditioning[POOLED].flatten(1).to(self.device)
        if FRAME_RATE in conditioning:
            prompts[FRAME_RATE] = float(conditioning[FRAME_RATE][0, 0])
        one_take = (0,) * len(windows)
        segment_info = comfy.conds.CONDConstant(SegmentInfo(windows, text_lengths, self.lead_frames, one_take))
        with training():
            # A copy, for it may be a part of what the network put out, and a unit returns new tensors.
            return self.evaluate(noised, levels, prompts, {keys.TTT_SEGMENT_INFO: segment_info}).clone()

    def save(self, path: Path, segment_latent_frames: int, title: str) -> None:
        """See training/student.Student."""
        save_ttt(path, self.loaded(segment_latent_frames, title))

    def loaded(self, segment_latent_frames: int, title: str) -> LoadedTTT:
        """The layers as they are now, copied."""
        # Not by state_dict, at whose call FSDP divides again what is whole for the moment.
        held = {
            number: {name: value.detach().cpu().clone() for name, value in layer.named_parameters()}
            for number, layer in self.layers.items()
        }
        blocks = block_count(self.patcher)
        return LoadedTTT(held, self.config, self.facts.family, segment_latent_frames, blocks, title, self.lead_frames)

    def save_others(self, path: Path, names: Collection[str], title: str) -> None:
        """See training/student.Student. Core's LoraLoaderModelOnly puts these weights in the place of the model's."""
        own = dict(self.network.named_parameters())
        save_whole(
            path,
            {
                f"diffusion_model.{name.removesuffix('.weight')}.set_weight": own[name].detach().cpu().contiguous()
                for name in sorted(names)
            },
            {"title": title},
        )

    def _layer_weights(self) -> dict[str, torch.Tensor]:
        return {
            f"{number}.{name}": value
            for number, layer in self.layers.items()
            for name, value in layer.state_dict().items()
        }


def _trainable(layer: TTTBlock, start_gate: float) -> TTTBlock:
    """A copy in float32 whose modules cast as ComfyUI's do."""
    block = TTTBlock(layer.ttt.config, comfy.ops.manual_cast, dtype=torch.float32)
    block.load_state_dict({name: value.detach().float().clone() for name, value in layer.state_dict().items()})
    with torch.no_grad():
        for _, gate in block.named_parameters(recurse=False):
            gate.masked_fill_(gate == 0, start_gate)
    return block.requires_grad_(True)


def _layers_to_train(model: ModelPatcher) -> Mapping[int, TTTBlock]:
    """Return the layers that a MODEL carries. Raises ValueError where there are none, or nodes work beside them."""
    layers = model.model_options["transformer_options"].get(keys.TTT_LAYERS)
    if not layers:
        raise ValueError("this model carries no TTT layers to train; wire it through Longreel Apply TTT")
    features = patching.features_of(model.model_options)
    if features:
        raise ValueError(
            f"{features[0].name} works on one segment at a time and training shows all of a story at once; wire the "
            f"model from before that node"
        )
    return layers
