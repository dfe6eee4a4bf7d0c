"""Put CAM on a MODEL of any family: engine/memory/cam.py works in the blocks that the family names.

Source: StreamingT2V (arXiv 2403.14773, section 4.1), carried over to diffusion transformers. As published: the
conditioning frames are the last ones of the chunk before, which the window begins with; they are the same for every
prompt; the feature extractor is shown the window's first frames as they are in this step, with their timestep, and the
prompt; its features go by injectors of their own into all frames of the window.

Not as published:
- The extractor is the network itself, which stays as it is. The paper trains a copy of a UNet's encoder; a copy of a
  transformer would double the model. What is trained is the encoder of the conditioning frames and the injectors.
- An injector stands behind a block, and reads what that very block made of the window's first frames. The paper reports
  CAM in the last 14 of OpenSora's 28 blocks: here too the later half, unless others are asked for.
- Conditioning frames are latents: the last latent frames of the chunk before are what the window's first ones will be,
  frame by frame, which cannot be said of the pixel frames of a video VAE that folds four or eight into one.

Each evaluation of the network costs a second one, of the conditioning frames alone. A chunk that begins a take has
nothing before it, and is made as without CAM.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

import comfy.ldm.common_dit

from ...engine.memory.cam import CHANNELS, HEAD_WIDTH, CAMConfig
from ...engine.memory.files import CAM_KIND, LoadedMemory
from ...engine.plan.needs import CARD, AttentionSize, Keep, Need
from .. import keys
from ..attention import patching
from ..attention.feature import Start
from ..families import block_count, family_of, plain_family_of, video_tokens
from ..families.sites import argument, token_grid
from ..types import Executor, ModelPatcher, Network
from ..windows.chunk_handler import handler_of
from ..windows.context_pass import CONTEXT_PASS
from . import trained_memory
from .kv_memory import require_whole_chunk
from .trained_memory import Carried, TrainedMemoryRun, carry, fingerprint, layers_asked, new_memory

NAME = "Longreel Short Memory (trained)"
INJECTOR_TENSORS = 6  # like the window's tokens, at once: normed, frame by frame, projected, queries, attended, added

Grid = tuple[int, int, int]  # token frames, rows, columns


@dataclass(frozen=True)
class CAMFeature:
    """These are the settings of a rollout with CAM. `weights` is the fingerprint of what was trained."""

    layers: tuple[int, ...]
    strength: float
    weights: str

    name: ClassVar[str] = NAME
    excludes: ClassVar[dict[str, str]] = {}

    def start(self, start: Start) -> "CAMRun":
        handler = handler_of(start, NAME)
        require_whole_chunk(start, NAME)
        video_tokens.check_alone(start.model, start.conds, NAME)
        chunk, remembered = handler.chunk, handler.remembered
        if remembered.finished.shape[2] and not chunk.known_frames:
            raise ValueError(
                f"{NAME} remembers the known frames that a chunk begins with, and chunk {chunk.number + 1} has none; "
                f"use an overlap of 1 latent frame or more in Longreel Plan"
            )
        before = remembered.before(chunk.first_new_frame, chunk.known_frames)
        return CAMRun(start.model.process_latent_in(before) if before.shape[2] else None)

    def need(self, size: AttentionSize) -> Need:
        """Return nothing that stays, and the features of the known frames while the network sees the window, with the
        tensors of one injector.
        """
        if not self.strength:
            return Need(self.name)
        of_frames = size.bytes_of(size.video_tokens()) // 2  # a tensor of the window's tokens; keys and values are two
        return Need(self.name, reading=(len(self.layers) + INJECTOR_TENSORS) * of_frames, keep=Keep(CARD))


class CAMRun(TrainedMemoryRun):
    """This is a run that reads conditioning frames: the window's first ones, as they are finished."""


def attach(
    model: ModelPatcher, memory: LoadedMemory | None, strength: float = 1.0, layers: frozenset[int] | None = None
):
    """Return a clone of `model` (ModelPatcher) that remembers in a rollout. Arguments and errors: see `with_cam`."""
    model = with_cam(model, memory, strength, layers)
    carried = model.model_options["transformer_options"][keys.CAM]
    return patching.attach(model, CAMFeature(carried.memory.layers, strength, fingerprint(carried.memory)))


def with_cam(
    model: ModelPatcher, memory: LoadedMemory | None, strength: float = 1.0, layers: frozenset[int] | None = None
):
    """Return a clone of `model` (ModelPatcher) that carries CAM, for a trainer: `remembering` says what it is to
    remember.

    memory None: a new, neutral one for training; it changes nothing. layers: the blocks of a new one, counted from 0;
    None for the later half. strength: 0..1, scales what the injectors add; 0 changes nothing, 1 is as trained.

    Raises ValueError for a network that is not known, layers of a memory that has its own, and as `carry` does.
    """
    video_tokens.plain_family(model)
    if memory is None:
        count = block_count(model)
        wanted = frozenset(range(count // 2, count)) if layers is None else layers_asked(model, layers)
        memory = new_memory(model, CAM_KIND, _new_config(model), wanted)
    elif layers is not None:
        raise ValueError(
            f"{len(layers)} blocks are asked for and this CAM was trained for {len(memory.layers)} of its "
            f"own; leave the choice to it"
        )
    return carry(model, keys.CAM, CAM_KIND, memory, strength, _evaluate)


def remembering(model: ModelPatcher, frames: torch.Tensor) -> dict:
    """Return transformer_options for the model's apply_model: `frames` [B, C, F, H, W], as the network sees latents,
    are the conditioning frames, and the first F of what it is shown are these frames with noise.
    """
    return trained_memory.options_with(model, keys.CAM_FRAMES, frames)


def parameters(model: ModelPatcher) -> dict[str, torch.nn.Parameter]:
    """Return what a trainer learns; gradients are recorded from now on."""
    return trained_memory.parameters(model, keys.CAM)


def trained(model: ModelPatcher, title: str = "") -> LoadedMemory:
    """Return CAM as it is now, to be saved."""
    return trained_memory.trained(model, keys.CAM, title)


def _new_config(model: ModelPatcher) -> CAMConfig:
    family, network = family_of(model), model.model.diffusion_model
    patch, width = family.patch_size(network), family.width(network)
    heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
    halvings = patch[1].bit_length() - 1
    channels = CHANNELS[-1 - halvings :]
    return CAMConfig(model.model.latent_format.latent_channels * patch[0], channels, width, heads)


def _evaluate(executor: Executor, *args, **kwargs):
    """Wrap DIFFUSION_MODEL: the network sees the window's first frames in a context pass, then the window with their
    features.
    """
    network = executor.class_obj
    options = argument(type(network)._forward, args, kwargs, "transformer_options")
    carried, frames = options[keys.CAM], _frames(options, args[0])
    if frames is None or not carried.strength:
        return executor(*args, **kwargs)
    if keys.TTT_LAYERS in options:
        raise ValueError(f"{NAME} and TTT layers each evaluate the blocks in their own way; use one of the two")
    x = args[0]
    if frames.shape[2] > x.shape[2]:
        raise ValueError(f"{frames.shape[2]} conditioning frames are more than the window's {x.shape[2]}; use fewer")
    context = _ContextPass(network, carried, frames, x)
    features = context.features(args, kwargs, options)
    reached: set[int] = set()

    def inject(number: int, video: torch.Tensor) -> torch.Tensor:
        reached.add(number)
        injector = carried.module.injectors[str(number)]
        here = video_tokens.frames_of(video, context.grid_of(x))
        return injector(here, features[number].to(here), carried.strength).flatten(1, 2)

    with _behind_blocks(network, carried, inject):
        out = executor(*args, **kwargs)
    _check_reached(carried, reached)
    return out


def _frames(options: dict, x: torch.Tensor) -> torch.Tensor | None:
    """Return the conditioning frames of this evaluation of x, or None: a context pass of another memory has none."""
    if keys.CAM_FRAMES in options:
        return options[keys.CAM_FRAMES]
    if keys.RUNNING not in options or options[keys.EVALUATION].role == CONTEXT_PASS:
        return None
    return next(run.latents_like(x) for run in options[keys.RUNNING].runs if isinstance(run, CAMRun))


class _ContextPass:
    """This is the network's context pass over the first frames of the window x [B, C, F, H, W]."""

    def __init__(self, network: Network, carried: Carried, frames: torch.Tensor, x: torch.Tensor):
        self.network, self.carried, self.x = network, carried, x
        self.family = plain_family_of(network)
        self.patch = self.family.patch_size(network)
        self.frames = frames.to(x)

    def grid_of(self, latent: torch.Tensor) -> Grid:
        return token_grid(latent.shape[2:], self.patch)

    def features(self, args: tuple, kwargs: dict, options: dict) -> dict[int, torch.Tensor]:
        """Return [B, F, P, C] behind each of the memory's blocks."""
        count = self.frames.shape[2]
        grid, found = self.grid_of(self.frames), {}
        encoded = self._encoded()

        def keep(number: int, video: torch.Tensor) -> torch.Tensor:
            found[number] = video_tokens.frames_of(video, grid).clone()  # later blocks may overwrite it
            return video

        def enter(module: torch.nn.Module, inputs, output):
            handle.remove()  # what comes in behind the video, a reference picture, is no frame of it
            return video_tokens.add_at_entrance(output, encoded, grid)

        # Other features do not work in the context pass: what they do belongs to the window.
        seen = {
            **{name: value for name, value in options.items() if name != keys.EVALUATION},
            keys.IN_CONTEXT_PASS: True,
        }
        place = next((place for place, value in enumerate(args) if value is options), None)
        args = tuple(seen if number == place else value for number, value in enumerate(args))
        kwargs = kwargs if place is not None else {**kwargs, "transformer_options": seen}
        timestep = _of_first_frames(args[1], self.grid_of(self.x), grid)
        entrance = self.family.entrance(self.network)
        with ExitStack() as hooks:
            hooks.enter_context(_behind_blocks(self.network, self.carried, keep))
            handle = entrance.register_forward_hook(torch.compiler.disable(enter))
            hooks.callback(handle.remove)
            self.network._forward(self.x[:, :, :count], timestep, *args[2:], **kwargs)
        _check_reached(self.carried, set(found))
        return found

    def _encoded(self) -> torch.Tensor:
        """Return [B, F * P, C] for the rows of x, which are all videos once for every prompt."""
        frames = comfy.ldm.common_dit.pad_to_patch_size(self.frames, self.patch)
        together = frames.unflatten(2, (-1, self.patch[0])).transpose(1, 2)  # [B, F, C, latent frames of a token, H, W]
        made = self.carried.module.encoder(together.flatten(2, 3).flatten(0, 1))  # [B * F, C, h, w]
        tokens = made.flatten(2).transpose(1, 2).unflatten(0, (frames.shape[0], -1)).flatten(1, 2)
        return tokens.repeat(self.x.shape[0] // frames.shape[0], 1, 1)


def _of_first_frames(timestep: torch.Tensor, grid: Grid, first: Grid) -> torch.Tensor:
    """Return timesteps [B], or the part of [B, frames or tokens, ...] that belongs to the first frames."""
    if timestep.ndim == 1 or timestep.shape[1] == 1:
        return timestep
    return timestep[:, : timestep.shape[1] // grid[0] * first[0]]


@contextmanager
def _behind_blocks(
    network: Network, carried: Carried, change: Callable[[int, torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Have change(block's number, video tokens [B, N, C]) stand behind each of the memory's blocks meanwhile."""

    family = plain_family_of(network)

    def hook(number: int, block: torch.nn.Module, args, kwargs, output):
        return video_tokens.change_video(family, block, args, kwargs, output, partial(change, number))

    blocks = family.blocks(network)
    with ExitStack() as hooks:
        for number in carried.memory.layers:
            handle = blocks[number].register_forward_hook(
                torch.compiler.disable(partial(hook, number)), with_kwargs=True
            )
            hooks.callback(handle.remove)
        yield


def _check_reached(carried: Carried, reached: set[int]) -> None:
    missed = sorted(set(carried.memory.layers) - reached)
    if missed:
        raise RuntimeError(
            f"{len(missed)} of {len(carried.memory.layers)} blocks that {NAME} works in were not evaluated "
            f"(the first: block {missed[0]}): another node replaces or skips them; remove that node"
        )
