"""What features say that they keep, against what they keep, at true width: every family, every feature.

    python dev.py memory --measure            print the table, a row when it is known
    python dev.py memory --measure "Wan 14B"  of one network
    python dev.py memory --measure --write    write docs/measured/kept_bytes.md anew

Networks have the true width and heads, two blocks (HunyuanVideo two of each kind), random weights, and come through
core's own loader; the video is small, because what is kept grows with its tokens alone. `said` is the plan that the
run itself begins with, `kept` the ledger at its fullest, read at every attention call.
"""

import gc
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tests.bench import memory
from tests.bench_support import start_comfyui

BLOCKS, TEXT_WIDTH, POOLED_WIDTH = 2, 4096, 768
STEPS = 2  # a memory is shown at two noise levels
SIDE, FRAMES, SEGMENT = 64, 6, 5  # pixels; latent frames of each of two shots, and of a segment
PAGE = memory.dev.ROOT / "docs" / "measured" / "kept_bytes.md"
HEADS = ("network", "feature", "kept in", "said, MiB", "kept, MiB", "off by")


def drawn(name: str) -> tuple[dict[str, torch.Tensor], dict | None]:
    """Draw the state dict of a network of BLOCKS blocks, and return it with its checkpoint's metadata."""
    from tests.bench._true_networks import NETWORKS

    network, generator = NETWORKS[name], torch.Generator().manual_seed(1)
    state = {}
    for key, like in network.build(BLOCKS).state_dict().items():
        if not key.endswith(network.absent or " "):
            spread = like[0].numel() ** -0.5 if like.ndim > 1 else 0.02
            state[key] = torch.randn(like.shape, generator=generator).mul_(spread).to(torch.bfloat16)
    return state, network.metadata()


def rows(name: str) -> Iterator[list[str]]:
    """A row for each feature, kept on the device and in main memory."""
    import comfy.sd

    from longreel.engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY, Keep
    from longreel.hosts.attention.remedies import keeping

    state, metadata = drawn(name)
    model = comfy.sd.load_diffusion_model_state_dict(state, metadata=metadata)
    del state
    blocks = BLOCKS * (2 if name == "HunyuanVideo" else 1)
    for case in memory.cases(blocks):
        if len(case.features) > 1 or "1/6" in case.name:
            continue
        for place, form in ((CARD, FULL), (MAIN_MEMORY, FULL), (MAIN_MEMORY, EIGHT_BIT)):
            said, kept = measured(model, keeping(case.features[0], Keep(place, form)))
            where = place if form == FULL else f"{place}, {form}"
            off = f"{100 * (said / kept - 1):+.1f} %" if kept else "nothing kept"
            yield [name, case.name, where, f"{said / 2**20:.2f}", f"{kept / 2**20:.2f}", off]


def measured(model: Any, feature: Any) -> tuple[int, int]:
    """The bytes that a run says it will keep, and the most that it keeps at any attention call."""
    from comfy.patcher_extension import WrappersMP

    from longreel.hosts import keys
    from longreel.hosts.attention import patching
    from longreel.hosts.attention.ledger import LEDGER
    from longreel.hosts.features import prompt_edit
    from tests.hosts.attention_watcher import Watcher

    said = kept = 0

    def look(call, next_attention):
        nonlocal kept
        watcher.calls.clear()  # it holds keys and values
        lines = [line for line in LEDGER.lines(feature.name) if line.what.startswith("keys and values")]
        kept = max(kept, sum(line.size_bytes for line in lines))
        return next_attention(call.q, call.k, call.v, call.mask)

    def plan(executor, inner, conds, x, timestep, model_options):
        nonlocal said
        needs = model_options["transformer_options"][keys.RUNNING].memory.needs
        said = max(said, *(need.kept for need in needs if need.name == feature.name), 0)
        return executor(inner, conds, x, timestep, model_options)

    gc.collect()
    watcher = Watcher(look)
    watched = patching.attach(model, watcher)
    attach = prompt_edit.attach if isinstance(feature, prompt_edit.PromptEdit) else patching.attach
    watched = attach(watched, feature)
    watched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "measure", plan)
    with torch.inference_mode():
        sample(watched, feature)
    return said, kept


def sample(model: Any, feature: Any) -> None:
    """Two shots, jointly or, where a feature remembers, in rollout."""
    import comfy.samplers

    from longreel.engine.plan.timeline import plan_timeline
    from longreel.engine.storyboard.board import Shot, Storyboard
    from longreel.hosts import facts_of
    from longreel.hosts.sampling.joint import sample_timeline
    from longreel.hosts.sampling.planning import empty_latent
    from longreel.hosts.sampling.rollout import sample_rollout
    from longreel.hosts.sampling.settings import Sampling

    facts = facts_of(model)
    seconds = FRAMES * facts.temporal_stride / facts.native_fps
    shots = tuple(Shot(f"shot {number}", seconds, transition="cut") for number in range(2))
    board = Storyboard(shots=shots, width=SIDE, height=SIDE, fps=facts.native_fps)
    segment = facts.latent_frames(facts.pixel_frames(SEGMENT))
    timeline = plan_timeline(board, facts, segment_frames=segment, overlap_frames=2)
    sampling = Sampling(
        positive=prompts(model, 2, "positive"), negative=prompts(model, 2, "negative"),
        sampler=comfy.samplers.ksampler("euler"), cfg=3.0, seed=1,
        sigmas=comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS),
    )  # fmt: skip
    if hasattr(feature, "reads_anchor"):
        sample_rollout(model, timeline, empty_latent(timeline), sampling)
    else:
        sample_timeline(model, timeline, empty_latent(timeline), sampling, blend="triangle")


def prompts(model: Any, shots: int, role: str) -> list:
    """Text of the family's length, drawn, for each shot, marked as Longreel Encode marks it."""
    from longreel.hosts import family_of, keys

    tokens, generator = family_of(model).TEXT_TOKENS, torch.Generator().manual_seed(len(role))
    beside = {"pooled_output": torch.zeros(1, POOLED_WIDTH)}
    given = inspect.signature(type(model.model.diffusion_model).forward).parameters
    if given.get("attention_mask") and given["attention_mask"].default is inspect.Parameter.empty:  # LTXV's
        beside["attention_mask"] = torch.ones(1, tokens, dtype=torch.long)
    return [
        [torch.randn(1, tokens, TEXT_WIDTH, generator=generator), {keys.SHOT: shot, keys.ROLE: role, **beside}]
        for shot in range(shots)
    ]


def main(names: Sequence[str], write: bool) -> None:
    """Print the table of some networks, or of all, and write it to its page where that is asked."""
    start_comfyui()
    from tests.bench._true_networks import NETWORKS

    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    print("\n".join(lines), flush=True)
    for name in names or NETWORKS:
        for row in rows(name):
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    if write:
        PAGE.write_text("\n".join([*INTRODUCTION.splitlines(), *lines]) + "\n", encoding="utf-8")


INTRODUCTION = """\
# What features keep at true width, measured

Written by `python dev.py memory --measure --write`, on a CPU. Networks of the true width and heads with two blocks
(HunyuanVideo two of each kind) and random weights, through ComfyUI's loader; two shots of 64 x 64 pixels, two prompts.
`said` is the plan that the run itself begins with, `kept` the ledger at its fullest, read at every attention call: all
that is kept of keys and values, wherever it lies. What is kept of true lengths and depths is in
[../memory.md](../memory.md).

"""
