"""Put APM on a MODEL of any family: engine/memory/apm.py works where the blocks read text, which the family names.

Source: StreamingT2V (arXiv 2403.14773, section 4.2), carried over to diffusion transformers. As published: picture
tokens of the anchor are mixed into the text of every layer by weights of its own; prompts that guidance subtracts are
given the null anchor, zeros, instead; the anchor is the first frame of the video. A new take may have its own, which
the paper, with one scene, does not need.

Where a family reads text by cross attention (Wan, LTXV) each layer mixes into the same text, as in the paper. Where
text goes through the blocks beside the video (CogVideoX, HunyuanVideo) each layer mixes into what the one before left
of it.

Not as published: the picture's vector is a pooled encoding of the anchor latent instead of CLIP's (engine/memory/apm.py
says why), and the paper's range of anchors in training is the trainer's matter. The chunk that makes the anchor has
none, and is made as without APM.

Wan image-to-video has trained cross attention to a picture of its own: without any APM, give the first frame of the
video to WanImageToVideo's `clip_vision_output` (CLIP Vision Encode) and every chunk keeps to it. What is mixed here is
the text alone; the picture's tokens in front of it are left as they are, and both may be used.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from ...engine.memory.apm import APMConfig
from ...engine.memory.files import APM_KIND, LoadedMemory
from ...engine.plan.needs import CARD, AttentionSize, Keep, Need
from ...engine.plan.timeline import Timeline
from .. import keys
from ..attention import patching
from ..attention.feature import Start
from ..families import block_count, family_of, plain_family_of, video_tokens
from ..families.sites import TextPlace, argument
from ..prompts import conditioning
from ..types import Executor, ModelPatcher, Network
from ..windows.chunk_handler import handler_of
from . import trained_memory
from .trained_memory import Carried, TrainedMemoryRun, carry, fingerprint, layers_asked, new_memory

NAME = "Longreel Long Memory (trained)"
OF_VIDEO, OF_TAKE = "video", "take"  # whose first frame is the anchor

MIXED_TEXTS = 4  # at once: the text with the picture's tokens, their scores, what is mixed, and the result


@dataclass(frozen=True)
class APMFeature:
    """These are the settings of a rollout with APM. `weights` is the fingerprint of what was trained."""

    anchor: str
    layers: tuple[int, ...]
    strength: float
    weights: str

    name: ClassVar[str] = NAME
    blocks: ClassVar[frozenset[int]] = frozenset()  # a block that is left out reads no text, and misses none
    excludes: ClassVar[dict[str, str]] = {}

    def start(self, start: Start) -> "APMRun":
        remembered = handler_of(start, NAME).remembered
        finished = remembered.take_anchor if self.anchor == OF_TAKE else remembered.video_anchor
        return APMRun(None if finished is None else start.model.process_latent_in(finished[:, :, :1]))

    def need(self, size: AttentionSize) -> Need:
        """Return nothing that stays, and the text that a layer mixes."""
        text = size.bytes_of(size.text_tokens) // 2  # keys and values are two
        return Need(self.name, reading=MIXED_TEXTS * text if self.strength else 0, keep=Keep(CARD))

    def frames_before(self, timeline: Timeline) -> int:
        """See hosts/memory/protocols.Remembers."""
        return 0

    def reads_anchor(self) -> bool:
        return True

    def reads_video(self) -> bool:
        return self.anchor == OF_VIDEO


class APMRun(TrainedMemoryRun):
    """This is a run that reads the anchor's frames."""


def attach(
    model: ModelPatcher,
    memory: LoadedMemory | None,
    anchor: str = OF_VIDEO,
    strength: float = 1.0,
    layers: frozenset[int] | None = None,
    text_tokens: int | None = None,
):
    """Return a clone of `model` (ModelPatcher) that remembers in a rollout. anchor: OF_VIDEO or OF_TAKE, whose first
    latent frame it keeps to. The rest, and errors: see `with_apm`.
    """
    if anchor not in (OF_VIDEO, OF_TAKE):
        raise ValueError(f"unknown anchor {anchor!r}; use {OF_VIDEO} or {OF_TAKE}")
    model = with_apm(model, memory, strength, layers, text_tokens)
    memory = model.model_options["transformer_options"][keys.APM].memory
    return patching.attach(model, APMFeature(anchor, memory.layers, strength, fingerprint(memory)))


def with_apm(
    model: ModelPatcher,
    memory: LoadedMemory | None,
    strength: float = 1.0,
    layers: frozenset[int] | None = None,
    text_tokens: int | None = None,
):
    """Return a clone of `model` (ModelPatcher) that carries APM, for a trainer: `remembering` says what it is to
    remember.

    memory None: a new, neutral one for training; it changes nothing. layers: the blocks of a new one, counted from 0;
    None for all. text_tokens: the longest text of a new one; None for the family's usual length. strength: 0..1, scales
    what the mixers add; 0 changes nothing, 1 is as trained.

    Raises ValueError for a network that is not known, settings of a memory that has its own, and as `carry` does.
    """
    video_tokens.plain_family(model)
    if memory is None:
        wanted = frozenset(range(block_count(model))) if layers is None else layers_asked(model, layers)
        memory = new_memory(model, APM_KIND, _new_config(model, text_tokens), wanted)
    elif layers is not None or text_tokens is not None:
        raise ValueError(
            f"this APM was trained for {len(memory.layers)} blocks and {memory.config.text_tokens} tokens "
            f"of text; leave both to it"
        )
    return carry(model, keys.APM, APM_KIND, memory, strength, _evaluate)


def remembering(model: ModelPatcher, anchor: torch.Tensor) -> dict:
    """Return transformer_options for the model's apply_model: `anchor` [B, C, F, H, W], as the network sees latents, is
    the anchor's frames; zeros are the null anchor.
    """
    return trained_memory.options_with(model, keys.APM_ANCHOR, anchor)


def parameters(model: ModelPatcher) -> dict[str, torch.nn.Parameter]:
    """Return what a trainer learns; gradients are recorded from now on."""
    return trained_memory.parameters(model, keys.APM)


def trained(model: ModelPatcher, title: str = "") -> LoadedMemory:
    """Return APM as it is now, to be saved."""
    return trained_memory.trained(model, keys.APM, title)


def _new_config(model: ModelPatcher, text_tokens: int | None) -> APMConfig:
    family = family_of(model)
    tokens = family.TEXT_TOKENS if text_tokens is None else text_tokens
    if tokens < 1:
        raise ValueError(f"{tokens} tokens of text are below 1; use {family.TEXT_TOKENS}, {family.NAME}'s usual length")
    return APMConfig(model.model.latent_format.latent_channels, family.width(model.model.diffusion_model), tokens)


def _evaluate(executor: Executor, *args, **kwargs):
    """Wrap DIFFUSION_MODEL: for one forward, layers read text with the anchor mixed in."""
    network = executor.class_obj
    options = argument(type(network)._forward, args, kwargs, "transformer_options")
    carried = options[keys.APM]
    picture = _picture(carried, options, args[0]) if carried.strength else None
    if picture is None:
        return executor(*args, **kwargs)
    with _mixed(network, carried, picture):
        return executor(*args, **kwargs)


def _picture(carried: Carried, options: dict, x: torch.Tensor) -> torch.Tensor | None:
    """Return [B, tokens, C] for the rows of x, which are all videos once for every prompt; None without an
    anchor.
    """
    make = carried.module.picture
    if keys.APM_ANCHOR in options:
        anchor = options[keys.APM_ANCHOR].to(x)
        return make(anchor).repeat(x.shape[0] // anchor.shape[0], 1, 1)
    if keys.RUNNING not in options:
        return None
    anchor = next(run.latents_like(x) for run in options[keys.RUNNING].runs if isinstance(run, APMRun))
    if anchor is None:
        return None
    conds = options[keys.EVALUATION].conds
    made = {null: make(torch.zeros_like(anchor) if null else anchor) for null in (False, True)}
    return torch.cat([made[_is_negative(conds, prompt)] for prompt in options["cond_or_uncond"]])


def _is_negative(conds: list[list[dict] | None], prompt: int) -> bool:
    """Tell whether guidance subtracts this prompt. Core's guiders name it second where entries do not say."""
    role = conditioning.role_of(conds[prompt])
    return prompt == 1 if role is None else role == conditioning.NEGATIVE


@contextmanager
def _mixed(network: Network, carried: Carried, picture: torch.Tensor) -> Iterator[None]:
    """Let each of the memory's blocks read its text mixed with `picture` [B, tokens, C] meanwhile."""
    family = plain_family_of(network)

    def hook_of(number: int, place: TextPlace):
        mixer = carried.module.mixers[str(number)]

        @torch.compiler.disable
        def hook(module: torch.nn.Module, args, kwargs):
            options = argument(type(module).forward, args, kwargs, "transformer_options") or {}
            if keys.IN_CONTEXT_PASS in options:  # the paper's CAM sees frames with the text alone
                return None
            return place.change(args, kwargs, lambda text: mixer(text, picture.to(text), carried.strength))

        return hook

    with ExitStack() as hooks:
        for number, block in enumerate(family.blocks(network)):
            if number in carried.memory.layers:
                place = family.text_place(block)
                handle = place.module.register_forward_pre_hook(hook_of(number, place), with_kwargs=True)
                hooks.callback(handle.remove)
        yield
