"""One step of every way of sampling on a network of true size: seconds, and bytes against what was asked for.

The first run loads the network and tunes kernels, the second is the figure. `asked bytes` is the memory that ComfyUI
was told to keep free beside the weights, the pack's share included; the estimate is that and the weights.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tests.bench.gpu import networks
from tests.bench.gpu.timing import peak, require_gpu, seconds
from tests.bench_support import call, start_comfyui

SIZE = (832, 480)
SEGMENT = 81  # pixel frames, of each shot and of a clip
CFG = 3.0


@dataclass(frozen=True)
class Bench:
    """A network and what it is asked to sample: two shots of one segment each, both prompts in a batch."""

    model: Any
    timeline: Any
    latent: dict
    positive: list
    negative: list
    rehearse: bool

    def sampling(self) -> Any:
        """One step of Euler."""
        import comfy.samplers

        from longreel.hosts.sampling.settings import Sampling

        sigmas = comfy.samplers.calculate_sigmas(self.model.get_model_object("model_sampling"), "simple", 1)
        return Sampling(
            positive=self.positive, negative=self.negative, sampler=comfy.samplers.ksampler("euler"), sigmas=sigmas,
            cfg=CFG, seed=1,
        )  # fmt: skip


def begin(record: Any, network: str, dtype: str, rehearse: bool) -> Bench:
    """Start ComfyUI, load the network and plan the video, each with its figures."""
    require_gpu(rehearse)
    started = time.perf_counter()
    start_comfyui()
    record("seconds to import ComfyUI", time.perf_counter() - started)
    started = time.perf_counter()
    with torch.inference_mode():
        model = networks.load(network, dtype, rehearse)
    record("seconds to draw and load", time.perf_counter() - started)
    record("weights bytes", model.model_size())
    record("dtype", f"{model.model.get_dtype()}, computed in {model.model.get_dtype_inference()}")

    from longreel.engine.storyboard.board import Shot, Storyboard
    from longreel.hosts.sampling.planning import segment_bytes
    from longreel.nodes.encode import LongreelEncode
    from longreel.nodes.plan import LongreelPlan

    width, height = (64, 64) if rehearse else SIZE
    frames = 17 if rehearse else SEGMENT
    shots = tuple(Shot(f"a cat runs, number {number}", frames / 16, transition="cut") for number in range(2))
    board = Storyboard(shots=shots, width=width, height=height, fps=16.0, negative="blurry")
    with torch.inference_mode():
        timeline, latent, *_ = call(
            LongreelPlan, model=model, storyboard=board, width=0, height=0, segment_frames=frames, overlap_frames=0,
            transition_prompts=0, steps=1, guidance=True,
        )  # fmt: skip
        positive, negative = call(LongreelEncode, clip=networks.text_encoder(), timeline=timeline)
    record("latent", list(latent["samples"].shape))
    record("segments", len(timeline.segments))
    record("segment bytes of the plan", segment_bytes(model, timeline, True))
    return Bench(model, timeline, latent, positive, negative, rehearse)


def plain(bench: Bench) -> torch.Tensor:
    """Core's own sampler on one clip, without the pack."""
    import nodes

    frames = max(segment.latent_frames for segment in bench.timeline.segments)
    clip = {"samples": bench.latent["samples"][:, :, :frames]}
    prompts = [[[entry[0], {}] for entry in entries[:1]] for entries in (bench.positive, bench.negative)]
    return nodes.KSampler().sample(bench.model, 1, 1, CFG, "euler", "simple", *prompts, clip)[0]["samples"]


def joint(bench: Bench, model: Any = None) -> torch.Tensor:
    """Both segments together, step by step."""
    from longreel.hosts.sampling.joint import sample_timeline

    return sample_timeline(
        model or bench.model, bench.timeline, bench.latent, bench.sampling(), blend="triangle"
    )["samples"]  # fmt: skip


def kv_share(bench: Bench, layers: str = "last 1/6", kept_in: str = "auto") -> torch.Tensor:
    """The second shot reads the first one's keys and values."""
    from longreel.nodes.kv_share import LongreelKVShare

    (model,) = call(
        LongreelKVShare, model=bench.model, mode="fast", source={"source": "first"}, shots="", across_cuts=True,
        join="replace", placement="aligned", strength=1.0, share_text=True, layers=layers, start_percent=0.0,
        end_percent=1.0, mask={"mask": "off"}, kept_in=kept_in,
    )  # fmt: skip
    return joint(bench, model)


def kv_share_all(bench: Bench) -> torch.Tensor:
    """The same in all layers, which the README calls best."""
    return kv_share(bench, "all")


def kv_share_moved(bench: Bench) -> torch.Tensor:
    """The same with keys and values in main memory, whether or not the card has room."""
    return kv_share(bench, "all", "main memory")


def rollout(bench: Bench, model: Any = None) -> torch.Tensor:
    """Two chunks, one after the other."""
    from longreel.hosts.sampling.rollout import sample_rollout

    return sample_rollout(model or bench.model, bench.timeline, bench.latent, bench.sampling())[0]["samples"]


def rollout_with_memories(bench: Bench) -> torch.Tensor:
    """The same with Short Memory's keys and values and Long Memory at its defaults."""
    from longreel.nodes.long_memory import LongreelLongMemory
    from longreel.nodes.short_memory import LongreelShortMemory

    method = {"method": "keys and values", "frames": 2, "strength": 1.0, "decay": 0.0, "layers": "all"}
    (model,) = call(LongreelShortMemory, model=bench.model, method=method)
    (model,) = call(
        LongreelLongMemory, model=model, anchor="video", frames=2, placement="before", strength=1.0, layers="all",
        statistics=0.5,
    )  # fmt: skip
    return rollout(bench, model)


def ttt(bench: Bench) -> torch.Tensor:
    """The whole timeline in one forward with new TTT layers in every block."""
    from longreel.hosts.sampling.whole import sample_ttt
    from longreel.hosts.ttt.apply import apply

    return sample_ttt(apply(bench.model, None), bench.timeline, bench.latent, bench.sampling())["samples"]


FEATURES: dict[str, Callable[[Bench], torch.Tensor]] = {
    "plain": plain,
    "joint": joint,
    "KV Share, last 1/6": kv_share,
    "KV Share, all layers": kv_share_all,
    "KV Share, all layers, main memory": kv_share_moved,
    "rollout": rollout,
    "rollout with memories": rollout_with_memories,
    "TTT": ttt,
}


@contextlib.contextmanager
def asked() -> Iterator[list[int]]:
    """Fill a list with the bytes that ComfyUI is told to keep free beside the weights, each time that it loads."""
    import comfy.model_management as management

    load, found = management.load_models_gpu, []

    def listening(models: Any, memory_required: float = 0, *rest: Any, **named: Any) -> Any:
        found.append(int(memory_required))
        return load(models, memory_required, *rest, **named)

    management.load_models_gpu = listening
    try:
        yield found
    finally:
        management.load_models_gpu = load


@contextlib.contextmanager
def planned() -> Iterator[list[Any]]:
    """Fill a list with the pack's plans of memory, one for each call of a sampler."""
    from longreel.hosts.attention.reserve import RunMemory

    check, found = RunMemory.check, []

    def listening(run: Any) -> None:
        found.append(run.plan)
        check(run)

    RunMemory.check = listening
    try:
        yield found
    finally:
        RunMemory.check = check


def figures_of(plan: Any) -> dict[str, Any]:
    """A plan as figures: what it reckons with, and what the card would hold with all weights."""
    core = plan.core
    return {
        "weights": core.weights,
        "least weights": core.least_weights,
        "window": core.window,
        "latents": core.latents,
        "whole timeline": core.layers,
        "features on the card": plan.features_on_card,
        "features in main memory": plan.features_in_main_memory,
        "on the card with all weights": core.whole + plan.features_on_card,
        "free": plan.card.free,
        "places": dict(plan.places),
    }


def step(record: Any, rehearse: bool, network: str, dtype: str, feature: str) -> None:
    """Record one step of one feature, cold and warm, and its memory against the estimate."""
    bench = begin(record, network, dtype, rehearse)
    weights = bench.model.model_size()
    for name in ("first", "second"):
        result = []
        with torch.inference_mode(), asked() as bytes_asked, planned() as plans, peak() as used:
            taken = seconds(lambda result=result: result.append(FEATURES[feature](bench)))
        estimate = max(bytes_asked, default=0) + weights
        record(f"{name} run", {"seconds": taken, "asked bytes": max(bytes_asked, default=0), **used})
        if top := used.get("peak bytes"):
            record(f"{name} run, estimate / peak", estimate / top)
        if plans:
            plan = max(plans, key=lambda plan: plan.core.whole + plan.features_on_card)
            record(f"{name} run, plan", figures_of(plan))
            if top and plan.beside_all_weights:
                record(f"{name} run, plan / peak", (plan.core.whole + plan.features_on_card) / top)
    record("finite", bool(torch.isfinite(result[0]).all()))
    record("deviation of the result", float(result[0].float().std()))


def compiled(record: Any, rehearse: bool, network: str, dtype: str, feature: str) -> None:
    """Record core's TorchCompileModel against none: seconds, breaks of the graph, how far the result is off."""
    bench = begin(record, network, dtype, rehearse)
    results: list[torch.Tensor] = []
    work = FEATURES[feature]
    with torch.inference_mode():
        work(bench)
        record("seconds without", seconds(lambda: results.append(work(bench))))
    from torch._dynamo.utils import counters

    from comfy_extras.nodes_torch_compile import TorchCompileModel

    backend = "eager" if rehearse else "inductor"
    (model,) = call(TorchCompileModel, model=bench.model, backend=backend)
    bench = Bench(model, bench.timeline, bench.latent, bench.positive, bench.negative, rehearse)
    record("backend", backend)
    with torch.inference_mode():
        record("seconds of the first run", seconds(lambda: work(bench)))
        record("breaks of the graph", {str(key)[:120]: count for key, count in counters["graph_break"].items()})
        record("seconds compiled", seconds(lambda: results.append(work(bench))))
    record("counters", {name: dict(counters[name]) for name in ("frames", "stats")})
    record("largest difference", difference(*results))


CALLS = {"without a mask": 0, "with a mask, given back": 0}  # not in a closure, whose state the pack winds back


def mask_less(core: Callable, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, *args: Any, **named: Any):
    """Attend as SageAttention's overrides do: without a mask by another function, else by core's."""
    if named.get("mask") is not None or (args and args[0] is not None):
        CALLS["with a mask, given back"] += 1
        return core(q, k, v, heads, *args, **named)
    CALLS["without a mask"] += 1
    if named.get("skip_reshape"):
        return core(q, k, v, heads, *args, **named)
    rows = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    return torch.nn.functional.scaled_dot_product_attention(*rows).transpose(1, 2).flatten(2)


def overridden(record: Any, rehearse: bool, network: str, dtype: str, feature: str) -> None:
    """Record a mask-less attention override as SageAttention's nodes set one: calls, seconds, difference."""
    bench = begin(record, network, dtype, rehearse)
    results: list[torch.Tensor] = []
    work = FEATURES[feature]
    with torch.inference_mode():
        work(bench)
        record("seconds without", seconds(lambda: results.append(work(bench))))
    model = bench.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = mask_less
    bench = Bench(model, bench.timeline, bench.latent, bench.positive, bench.negative, rehearse)
    with torch.inference_mode():
        record("seconds with", seconds(lambda: results.append(work(bench))))
    record("calls", CALLS)
    record("largest difference", difference(*results))
    if not CALLS["without a mask"]:
        raise AssertionError("the override was never called")


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference of two latents."""
    return float((a.float() - b.float()).abs().max())
