"""The one tap per block: how features reach the attention of any family.

`attach` puts a feature on a clone of a MODEL. When a sampler starts, every feature begins a run (and may refuse it);
then each evaluation of the network is announced to it, and each attention call of each block is handed through all
features, the last one attached outermost. The run, with everything it remembers, ends with the sampler, interrupted or
not.

Nothing is put into ComfyUI's single slots when the graph is built: the attention override is chained, and the blocks
are watched, only while the network runs. So other nodes' overrides, block replacements and object patches work before
and after ours alike. Calls that no feature wants go on untouched. A patch that keeps an attention call, or the whole
network, from a feature that wants it is an error, after that forward.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from uuid import UUID

import torch

import comfy.patcher_extension as extension
from comfy.ldm.modules.attention import attention_pytorch

from ...engine.plan.spans import NoiseSpan
from .. import keys
from ..families import family_of, leading_tokens, refuse_sound
from ..families.clone import clone
from ..families.family import Family
from ..families.sites import Call, Forward, Site, Visit, token_grid
from ..types import (
    Attention,
    BaseModel,
    CondLists,
    CoreAttention,
    Executor,
    ModelOptions,
    ModelPatcher,
    Network,
    Sampler,
)
from . import neighbours, reserve
from .compiled import keep_outside
from .feature import WHOLE, Evaluation, Feature, Run, Running, Start
from .noise_level import level_of

OVERRIDE = "optimized_attention_override"  # core's name of its slot


def attach(model: ModelPatcher, feature: Feature):
    """Return a clone of `model` with one more feature. Raises ValueError where two exclude each other."""
    refuse_sound(model, feature.name)
    features = features_of(model.model_options)
    for other in features:
        reason = feature.excludes.get(other.name) or other.excludes.get(feature.name)
        if all(getattr(one, "replaces_keys", False) for one in (feature, other)):
            reason = "each replaces the keys and values"
        if reason:
            raise ValueError(f"{feature.name} and {other.name} cannot work on one model: {reason}; use one of the two")
    model = clone(model)
    options = model.model_options["transformer_options"] = dict(model.model_options.get("transformer_options", {}))
    options[keys.FEATURES] = (*features, feature)
    if not features:
        model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, keys.TAP, _run)
        model.add_wrapper_with_key(extension.WrappersMP.CALC_COND_BATCH, keys.TAP, _announce)
        model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, keys.TAP, _watch)
        keep_outside(model)
        reserve.reserve_memory(model)
    return model


def say_steps(name: str, what: str, span: NoiseSpan, start: Start) -> None:
    """Log in how many of the sampler's steps a feature does `what`.

    No step at all is worth a warning, though right for one of two experts.
    """
    total, active = len(start.sigmas) - 1, span.steps(start.sigmas.tolist())
    level = logging.INFO if active else logging.WARNING
    logging.log(level, "%s: %s in %d of this sampler's %d steps", name, what, active, total)


def features_of(model_options: dict) -> tuple[Feature, ...]:
    """Return the features that these options of a MODEL carry, in the order in which they were attached."""
    return model_options.get("transformer_options", {}).get(keys.FEATURES, ())


def roles_of(model_options: dict, segment: int) -> tuple[str, ...]:
    """Return in which roles the features want a segment evaluated; one if they do not care."""
    running = model_options.get("transformer_options", {}).get(keys.RUNNING)
    asked = [roles for run in (running.runs if running else ()) if (roles := run.roles(segment))]
    return asked[0] if asked else (WHOLE,)


def _run(
    executor: Executor,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Sampler,
    sigmas: torch.Tensor,
    *args,
    **kwargs,
):
    """OUTER_SAMPLE: features live as long as one call of the sampler."""
    guider = executor.class_obj
    patcher, options = guider.model_patcher, guider.model_options["transformer_options"]
    features = options[keys.FEATURES]
    # Of all features of the MODEL: Prompt Edit takes itself out while its original is sampled.
    memory = reserve.RunMemory.of_run(guider, noise.shape, features_of(patcher.model_options))
    handler = guider.model_options.get("context_handler")
    start = Start(patcher.model, family_of(patcher), handler, guider.conds, sigmas, memory.plan.places)
    runs = tuple(feature.start(start) for feature in features)
    for feature, run in zip(features, runs, strict=True):
        every = getattr(run, "needs_every_evaluation", False)
        neighbours.check(feature, every, guider)
    neighbours.say_lost_attention(start.model.diffusion_model, [feature.name for feature in features])
    memory.check()
    options[keys.RUNNING] = Running(start.family, tuple(feature.name for feature in features), runs, memory.plan)
    try:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        del options[keys.RUNNING]


def _announce(
    executor: Executor,
    model: BaseModel,
    conds: CondLists,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: ModelOptions,
):
    """CALC_COND_BATCH: once per window and role."""
    options = model_options["transformer_options"]
    running = options[keys.RUNNING]
    segment, role = options.get(keys.SEGMENT_AND_ROLE, (None, WHOLE))
    evaluation = Evaluation(segment, role, level_of(timestep, options), conds)
    for run in running.runs:
        run.begin(evaluation)
    told = {**model_options, "transformer_options": {**options, keys.EVALUATION: evaluation}}
    out = executor(model, conds, x, timestep, told)
    if not evaluation.forwards and (wanted := _wanted(running, model.diffusion_model, evaluation)):
        raise RuntimeError(
            f"none of the {len(wanted)} attention modules that {_names(running)} works in was evaluated at "
            f"sigma {evaluation.sigma:.4g}: another node answered in the network's place; remove nodes "
            f"that skip evaluations, such as TeaCache, or use LazyCache"
        )
    return out


def _wanted(running: Running, network: Network, evaluation: Evaluation) -> list[Site]:
    return [
        site
        for site in running.family.sites(network)
        if any(run.wants(site.kind, site.block, evaluation) for run in running.runs)
    ]


def _names(running: Running) -> str:
    return " and ".join(running.names)


def _watch(executor: Executor, *args, **kwargs):
    """DIFFUSION_MODEL: chains the attention override and marks every attention call with its site, for one forward."""
    network = executor.class_obj
    place = _place_of_options(args, kwargs)
    if place is None:
        raise RuntimeError(
            "the network was called without what Longreel told it of this evaluation; a node calls it apart from "
            "ComfyUI's sampler: remove that node, or Longreel's"
        )
    options = _get(args, kwargs, place)
    running, evaluation = options[keys.RUNNING], options[keys.EVALUATION]
    wanted = _wanted(running, network, evaluation)
    forward = _describe(running.family, network, args, kwargs)
    evaluation.forwards.append(forward)
    if not wanted:
        return executor(*args, **kwargs)
    tap = _Tap(running.runs, evaluation, forward, options.get(OVERRIDE))
    args, kwargs = _set(args, kwargs, place, {**options, OVERRIDE: tap})
    with ExitStack() as hooks:
        for site in wanted:
            handle = site.module.register_forward_pre_hook(torch.compiler.disable(_mark(site)), with_kwargs=True)
            hooks.callback(handle.remove)
        out = executor(*args, **kwargs)
    missed = [site for site in wanted if (site.kind, site.block) not in tap.handed_on]
    if missed:
        first = missed[0]
        raise RuntimeError(
            f"{len(missed)} of {len(wanted)} attention calls that {_names(running)} works on never came "
            f"(the first: {first.kind} attention of block {first.block}): another node replaces or "
            f"skips these blocks; remove that node, or choose other layers"
        )
    return out


def _describe(family: Family, network: Network, args: tuple, kwargs: dict) -> Forward:
    patches = family.patch_size(network)
    grid = token_grid(args[0].shape[2:], patches)
    return Forward(
        grid,
        patches[0],
        family.time_shift(network, args, kwargs),
        family.prompt_start(network, args, kwargs),
        leading_tokens(family, network, args, kwargs),
    )


def _place_of_options(args: tuple, kwargs: dict) -> int | str | None:
    """Return where the options with the evaluation stand: families take transformer_options at different places."""
    return next(
        (
            place
            for place, value in [*enumerate(args), *kwargs.items()]
            if isinstance(value, dict) and keys.EVALUATION in value
        ),
        None,
    )


def _get(args: tuple, kwargs: dict, place: int | str) -> dict:
    return args[place] if isinstance(place, int) else kwargs[place]


def _set(args: tuple, kwargs: dict, place: int | str, options: dict) -> tuple[tuple, dict]:
    if isinstance(place, int):
        return (*args[:place], options, *args[place + 1 :]), kwargs
    return args, {**kwargs, place: options}


def _mark(site: Site):
    """Return a hook that marks a site's module as visited.

    A module that is entered without our options stays unmarked, and is missed afterwards.
    """

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict):
        place = _place_of_options(args, kwargs)
        if place is None:
            return None
        visit = Visit(site, site.text_tokens(module, args, kwargs))
        return _set(args, kwargs, place, {**_get(args, kwargs, place), keys.VISIT: visit})

    return hook


class _Tap:
    """This is the attention override of one forward; `before` is another node's."""

    def __init__(self, runs: tuple[Run, ...], evaluation: Evaluation, forward: Forward, before: Callable | None):
        self.runs, self.evaluation, self.forward, self.before = runs, evaluation, forward, before
        self.handed_on: set[tuple[str, int]] = set()

    @torch.compiler.disable
    def __call__(
        self,
        func: CoreAttention,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        heads: int,
        mask: torch.Tensor | None = None,
        **kwargs,
    ):
        attend = func if self.before is None else partial(self.before, func)
        options = kwargs.get("transformer_options") or {}
        visit = options.get(keys.VISIT)
        if visit is None:
            return attend(q, k, v, heads, mask=mask, **kwargs)
        visit.calls += 1
        if visit.calls <= visit.site.calls_before:
            return attend(q, k, v, heads, mask=mask, **kwargs)
        self.handed_on.add((visit.site.kind, visit.site.block))
        return self._fold(visit, options, attend, q, k, v, heads, mask, kwargs)

    def _fold(
        self,
        visit: Visit,
        options: dict,
        attend: CoreAttention,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        heads: int,
        mask: torch.Tensor | None,
        kwargs: dict,
    ):
        apart = kwargs.get("skip_reshape", False)  # [B, H, S, D] already
        four_axes = mask if mask is None else _with_heads(mask)

        def split(t: torch.Tensor):
            return t if apart else t.unflatten(-1, (heads, -1)).transpose(1, 2)

        def join(t: torch.Tensor):
            return t if apart else t.transpose(1, 2).flatten(2)

        def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, new_mask: torch.Tensor | None):
            if new_mask is four_axes:
                out = attend(join(q), join(k), join(v), q.shape[1], mask=mask, **kwargs)
            else:  # a mask of ours: exact attention, whatever backend or override would leave it out
                out = attention_pytorch(q, k, v, q.shape[1], mask=new_mask, skip_reshape=True)
            return out.unflatten(-1, (q.shape[1], -1)).transpose(1, 2)

        layered = plain
        rows = tuple(options["cond_or_uncond"])
        entries = tuple(
            _entry(self.evaluation.conds[prompt], uuid) for prompt, uuid in zip(rows, options["uuids"], strict=True)
        )
        call = Call(
            visit.site.kind,
            visit.site.block,
            visit.text_tokens,
            rows,
            entries,
            split(q),
            split(k),
            split(v),
            four_axes,
            self.forward,
            self.evaluation,
        )
        for run in self.runs:
            if run.wants(call.kind, call.block, self.evaluation):
                layered = _layer(run, call, layered)
        return layered(call.q, call.k, call.v, four_axes).transpose(1, 2).flatten(2)


def _entry(conds: list[dict], uuid: UUID) -> int:
    known = [cond["uuid"] for cond in conds]
    if uuid not in known:
        raise RuntimeError(
            f"the network is shown a prompt that is none of the {len(known)} that Longreel was told of; "
            f"another node changes the conditioning during sampling: remove it, or "
            f"Longreel's nodes"
        )
    return known.index(uuid)


def _with_heads(mask: torch.Tensor) -> torch.Tensor:
    """Return core's masks [Sq, Sk] or [B, Sq, Sk] as [B, 1, Sq, Sk]."""
    return mask[(None,) * max(0, 3 - mask.ndim)].unsqueeze(1) if mask.ndim < 4 else mask


def _layer(run: Run, call: Call, inner: Attention):
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None):
        return run.attend(replace(call, q=q, k=k, v=v, mask=mask), inner)

    return attend
