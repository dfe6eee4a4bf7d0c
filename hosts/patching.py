"""The one tap per block: how features reach the attention of any family.

`attach` puts a feature on a clone of a MODEL. When a sampler starts, every feature begins a run (and may refuse it); then
each evaluation of the network is announced to it, and each attention call of each block is handed through all features,
the last one attached outermost. The run, with everything it remembers, ends with the sampler, interrupted or not.

Nothing is put into ComfyUI's single slots when the graph is built: the attention override is chained, and the blocks are
watched, only while the network runs. So other nodes' overrides, block replacements and object patches work before and
after ours alike. Calls that no feature wants go on untouched.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

import comfy.patcher_extension as extension
from comfy.ldm.modules.attention import attention_pytorch

from . import family_of
from .sites import CROSS, Call, Forward, Site, Visit

KEY, FEATURES, RUN = "longreel", "longreel_features", "longreel_run"
SEEN, EVALUATION, VISIT = "longreel_seen", "longreel_evaluation", "longreel_visit"
WHOLE = "whole"  # the role of a segment that no feature asks for in another one


@dataclass(frozen=True)
class Start:
    """What a feature is told before sampling. `handler` is the context handler in charge, ours with its `timeline`, or
    another's, or None; `conds` are the guider's lists by name, before core processes them."""

    model: Any  # comfy.model_base.BaseModel
    family: Any  # module of hosts/
    handler: Any
    conds: dict[str, list[dict]]
    sigmas: torch.Tensor


@dataclass(frozen=True)
class Running:
    """Kept in transformer_options while a sampler runs."""

    family: Any
    runs: tuple["Run", ...]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the network: the number of the segment that it sees (None without a timeline), in which role a
    feature asked for it, at which sigma, and the conditioning lists, by core's numbers of them."""

    segment: int | None
    role: str
    sigma: float
    conds: list[list[dict] | None]


class Run(Protocol):
    """A feature at work in one run of a sampler."""

    def roles(self, segment: int) -> tuple[str, ...]:
        """Once for each role is this segment evaluated in every step; the predictions are blended alike."""

    def begin(self, evaluation: Evaluation) -> None:
        """The network is about to see this."""

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Whether `attend` is to be asked in this block's attention."""

    def attend(self, call: Call, go_on: Callable[..., torch.Tensor]) -> torch.Tensor:
        """[B, H, Sq, D]; `go_on(q, k, v, mask)` is the next feature's, and at last the network's, attention."""


class Feature(Protocol):
    """Settings of one method. `name` is its node's; `excludes` names nodes that cannot work beside it, by reason."""

    name: str
    excludes: dict[str, str]

    def start(self, start: Start) -> Run:
        """Raises ValueError where this model, timeline or conditioning cannot be served."""


def attach(model, feature: Feature):
    """A clone of `model` (ModelPatcher) with one more feature. Raises ValueError where two exclude each other."""
    family_of(model)
    features = features_of(model.model_options)
    for other in features:
        reason = feature.excludes.get(other.name) or other.excludes.get(feature.name)
        if reason:
            raise ValueError(f"{feature.name} and {other.name} cannot work on 1 model: {reason}; use one of the 2")
    model = model.clone()
    options = model.model_options["transformer_options"] = dict(model.model_options.get("transformer_options", {}))
    options[FEATURES] = (*features, feature)
    if not features:
        model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, KEY, _run)
        model.add_wrapper_with_key(extension.WrappersMP.CALC_COND_BATCH, KEY, _announce)
        model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, KEY, _watch)
    return model


def features_of(model_options: dict) -> tuple[Feature, ...]:
    return model_options.get("transformer_options", {}).get(FEATURES, ())


def roles_of(model_options: dict, segment: int) -> tuple[str, ...]:
    """In which roles the features want a segment evaluated; one if they do not care."""
    running = model_options.get("transformer_options", {}).get(RUN)
    asked = [roles for run in (running.runs if running else ()) if (roles := run.roles(segment))]
    return asked[0] if asked else (WHOLE,)


def _run(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """OUTER_SAMPLE: features live as long as one call of the sampler."""
    guider = executor.class_obj
    patcher, options = guider.model_patcher, guider.model_options["transformer_options"]
    start = Start(patcher.model, family_of(patcher), guider.model_options.get("context_handler"), guider.conds, sigmas)
    options[RUN] = Running(start.family, tuple(feature.start(start) for feature in options[FEATURES]))
    try:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        del options[RUN]


def _announce(executor, model, conds, x, timestep, model_options):
    """CALC_COND_BATCH: once per window and role."""
    options = model_options["transformer_options"]
    segment, role = options.get(SEEN, (None, WHOLE))
    evaluation = Evaluation(segment, role, float(timestep[0]), conds)
    for run in options[RUN].runs:
        run.begin(evaluation)
    told = {**model_options, "transformer_options": {**options, EVALUATION: evaluation}}
    return executor(model, conds, x, timestep, told)


def _watch(executor, x, *args, **kwargs):
    """DIFFUSION_MODEL: chains the attention override and marks every attention call with its site, for one forward."""
    network = executor.class_obj
    place, options = _find_options(args, kwargs)
    family, runs, evaluation = options[RUN].family, options[RUN].runs, options[EVALUATION]
    wanted = [site for site in family.sites(network) if any(run.wants(site.kind, site.block, evaluation) for run in runs)]
    if not wanted:
        return executor(x, *args, **kwargs)
    patches = family.patch_size(network)
    grid = tuple(-(-size // patch) for size, patch in zip(x.shape[2:], patches))
    forward = Forward(grid, patches[0], family.time_turn(network, args, kwargs), family.words_at(network, args, kwargs))
    options = {**options, "optimized_attention_override": _override(runs, evaluation, forward,
                                                                    options.get("optimized_attention_override"))}
    if isinstance(place, int):
        args = (*args[:place], options, *args[place + 1:])
    else:
        kwargs = {**kwargs, place: options}
    with ExitStack() as stack:
        for site in wanted:
            handle = site.module.register_forward_pre_hook(_mark(site), with_kwargs=True)
            stack.callback(handle.remove)
        return executor(x, *args, **kwargs)


def _find_options(args: tuple, kwargs: dict) -> tuple[int | str, dict]:
    """Families take transformer_options at different places; it alone carries the evaluation."""
    for place, value in [*enumerate(args), *kwargs.items()]:
        if isinstance(value, dict) and EVALUATION in value:
            return place, value
    raise RuntimeError(f"none of the network's {len(args) + len(kwargs)} arguments carries Longreel's evaluation; another "
                       f"node calls the network apart from ComfyUI's sampler: remove that node, or Longreel's")


def _mark(site: Site):
    def hook(module, args, kwargs):
        visit = Visit(site, site.text(args, kwargs))
        options = {**kwargs["transformer_options"], VISIT: visit}
        return args, {**kwargs, "transformer_options": options}

    return hook


def _override(runs: tuple[Run, ...], evaluation: Evaluation, forward: Forward, before):
    def override(func, q, k, v, heads, mask=None, **kwargs):
        def go_on(q, k, v, mask):
            if before is not None:
                return before(func, q, k, v, heads, mask=mask, **kwargs)
            return func(q, k, v, heads, mask=mask, **kwargs)

        options = kwargs.get("transformer_options") or {}
        visit = options.get(VISIT)
        if visit is None or not _is_text_call(visit):
            return go_on(q, k, v, mask)
        return _fold(runs, visit, evaluation, forward, options, go_on, q, k, v, heads, mask, kwargs)

    return override


def _is_text_call(visit: Visit) -> bool:
    """A cross attention with image tokens in front is two calls; the features' is the second, on text."""
    visit.calls += 1
    return visit.site.kind != CROSS or not visit.in_front or visit.calls == 2


def _fold(runs, visit: Visit, evaluation: Evaluation, forward: Forward, options: dict, go_on, q, k, v, heads: int, mask,
          kwargs: dict):
    apart = kwargs.get("skip_reshape", False)  # [B, H, S, D] already

    def split(t):
        return t if apart else t.unflatten(-1, (heads, -1)).transpose(1, 2)

    def join(t):
        return t if apart else t.transpose(1, 2).flatten(2)

    def plain(q, k, v, new_mask):
        if new_mask is mask:
            out = go_on(join(q), join(k), join(v), mask)
        else:  # a mask of ours: exact attention, whatever backend or override would leave it out
            out = attention_pytorch(q, k, v, heads, mask=new_mask, skip_reshape=True)
        return out.unflatten(-1, (heads, -1)).transpose(1, 2)

    attend = plain
    text = visit.in_front if visit.site.kind != CROSS else 0
    call = Call(visit.site.kind, visit.site.block, text, tuple(options["cond_or_uncond"]), split(q), split(k), split(v),
                mask, forward, evaluation)
    for run in runs:
        if run.wants(call.kind, call.block, evaluation):
            attend = _layer(run, call, attend)
    return attend(call.q, call.k, call.v, mask).transpose(1, 2).flatten(2)


def _layer(run: Run, call: Call, inner):
    def attend(q, k, v, mask):
        return run.attend(replace(call, q=q, k=k, v=v, mask=mask), inner)

    return attend
