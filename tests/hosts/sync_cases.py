"""One short sampling with each feature, for tests that watch it from outside (tests/hosts/test_device_syncs.py)."""

import dataclasses
from collections.abc import Callable
from types import ModuleType

import torch

import comfy.samplers

from longreel.engine.attention.kv_share import BEFORE, EXTEND, FIRST
from longreel.engine.attention.prompt_edit import LOGITS
from longreel.engine.plan.anchor import CLEAN, INPAINT
from longreel.engine.ttt.layer import AS_TRAINED, LINEAR, MLP
from longreel.hosts import block_count
from longreel.hosts.attention import patching
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.kv_share import PAPER
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.memory import apm, cam, long_memory, short_memory
from longreel.hosts.memory.long_memory import VIDEO, LongMemory
from longreel.hosts.memory.short_memory import AT_ZERO, KeysAndValues
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from longreel.hosts.sampling.joint import sample_timeline
from longreel.hosts.sampling.refine import STEP, X0
from longreel.hosts.ttt import apply as ttt
from tests.hosts import memory_cases, ttt_cases
from tests.hosts.anchor_cases import with_anchor
from tests.hosts.features import test_kv_share, test_prompt_edit
from tests.hosts.features.test_prompt_edit import reweight
from tests.hosts.memory.test_short_memory import known
from tests.hosts.rollout_cases import roll, sampler_for, sigmas_of, story
from tests.hosts.sampling import test_refine
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

STEPS = 2
WORDS = Mask(("cat",), 0.3)
PINK_COUNTS_TWICE = reweight("pink", weight=2.0)


def joint(loaded, blend: str = "triangle", model=None, sampler=None, **shot) -> torch.Tensor:
    """Longreel Sampler in mode joint: 4 segments of 3 shots."""
    model = model or loaded.model
    timeline = timeline_for(model, **shot)
    sampling = sampling_of(encode(loaded, timeline), sigmas_of(model, STEPS), sampler or sampler_for(model))
    with torch.inference_mode():
        return sample_timeline(model, timeline, {"samples": empty(timeline)}, sampling, blend=blend)["samples"]


def shared(loaded, **changed) -> torch.Tensor:
    """KV Share in 4 segments, in blocks 1 and 2."""
    settings = dataclasses.replace(test_kv_share.PLAIN, **changed)
    return test_kv_share.sample(loaded, test_kv_share.story(loaded.model), settings, steps=STEPS)


def edited(loaded, edit: PromptEdit) -> torch.Tensor:
    """Prompt Edit in 3 segments of 2 shots, in 3 blocks."""
    return test_prompt_edit.run(loaded, edit, prompts=(test_prompt_edit.PINK, test_prompt_edit.BLUE), steps=STEPS)


def rolled(loaded, model=None) -> torch.Tensor:
    """Mode rollout: 8 latent frames in 2 chunks."""
    return roll(loaded, story(loaded.model, ("continue",)), model, steps=STEPS)


def keys_and_values(loaded) -> torch.Tensor:
    layers = frozenset(range(block_count(loaded.model)))
    return rolled(loaded, short_memory.attach(loaded.model, KeysAndValues(2, 0.5, 0.5, layers)))


def with_long_memory(model):
    """A clone that reads the first chunk in all blocks."""
    layers = frozenset(range(block_count(model)))
    return patching.attach(model, LongMemory(VIDEO, 1, long_memory.BEFORE, 1.0, layers, 0.0))


def trained(loaded, how: ModuleType) -> torch.Tensor:
    """CAM or APM with drawn weights."""
    memory = memory_cases.drawn(how.trained(how.attach(loaded.model, None)))
    return rolled(loaded, how.attach(loaded.model, memory))


def in_one_forward(loaded, kind: str = MLP, rates: str | None = None, **shot) -> torch.Tensor:
    """Apply TTT over a timeline of 2 segments."""
    timeline = ttt_cases.plan(loaded, shots=2, **shot)
    layers = ttt_cases.layers(loaded.model, kind)
    if rates is not None:
        layers = dataclasses.replace(layers, config=dataclasses.replace(layers.config, rates=rates))
    model = ttt.attach_timeline(ttt.apply(loaded.model, layers), timeline)
    return ttt_cases.denoise(model, ttt_cases.encode(loaded, timeline), ttt_cases.noise_for(timeline), steps=STEPS)


def refined(loaded, blend: str, sampler: str = "euler") -> torch.Tensor:
    """Longreel Refine: 3 chunks."""
    return test_refine.refined(loaded, test_refine.video(loaded.model), steps=STEPS, blend=blend, sampler=sampler)


CASES: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {  # as docs/performance.md names it -> (tiny model, case)
    "joint": ("wan21", joint),
    "joint, blend randomized": ("wan21", lambda tiny: joint(tiny, "randomized")),
    "joint, a shot of strength 0.5": ("wan21", lambda tiny: joint(tiny, strength=0.5)),
    "joint, heun": ("wan21", lambda tiny: joint(tiny, sampler=comfy.samplers.sampler_object("heun"))),
    "joint, alpha space, dynamic guidance": (
        "cogvideox10",
        lambda tiny: joint(tiny, sampler=AlphaSpaceSampler("dpmpp_2m_sde", 1.0, "published")),
    ),
    "KV Share": ("wan21", shared),
    "KV Share, mode paper": ("wan21", lambda tiny: shared(tiny, mode=PAPER)),
    "KV Share, first, extend, before": (
        "wan21",
        lambda tiny: shared(tiny, source=FIRST, join=EXTEND, placement=BEFORE),
    ),
    "KV Share, before, on LTXV": ("ltxv", lambda tiny: shared(tiny, placement=BEFORE)),
    "KV Share, mask words": ("wan21", lambda tiny: shared(tiny, mask=WORDS)),
    "KV Share, mask words, on HunyuanVideo": ("hunyuan_video", lambda tiny: shared(tiny, mask=WORDS)),
    "Prompt Edit, reweight": ("wan21", lambda tiny: edited(tiny, PINK_COUNTS_TWICE)),
    "Prompt Edit, reweight, logits, on CogVideoX": (
        "cogvideox10",
        lambda tiny: edited(tiny, reweight("pink", weight=2.0, form=LOGITS)),
    ),
    "Prompt Edit, reweight, on HunyuanVideo": ("hunyuan_video", lambda tiny: edited(tiny, PINK_COUNTS_TWICE)),
    "Prompt Edit, reweight and layout": (
        "wan21",
        lambda tiny: edited(tiny, dataclasses.replace(PINK_COUNTS_TWICE, layout=Layout(None, 0.0, 1.0))),
    ),
    "Anchor Frame, inpaint": ("wan21", lambda tiny: joint(tiny, model=with_anchor(tiny, 0, INPAINT, 0.8))),
    "Anchor Frame, clean": ("wan21", lambda tiny: joint(tiny, model=with_anchor(tiny, 0, CLEAN, 0.8))),
    "Anchor Frame, clean, on CogVideoX": (
        "cogvideox10",
        lambda tiny: joint(tiny, model=with_anchor(tiny, 0, CLEAN, 0.8)),
    ),
    "Anchor Frame, clean, on HunyuanVideo": (
        "hunyuan_video",
        lambda tiny: joint(tiny, model=with_anchor(tiny, 0, CLEAN, 0.8)),
    ),
    "rollout": ("wan21", rolled),
    "Short Memory, clean": ("wan21", lambda tiny: rolled(tiny, known(tiny.model, short_memory.CLEAN, strength=0.9))),
    "Short Memory, clean at time 0": ("wan21", lambda tiny: rolled(tiny, known(tiny.model, AT_ZERO, strength=0.9))),
    "Short Memory, keys and values": ("wan21", keys_and_values),
    "Long Memory": ("wan21", lambda tiny: rolled(tiny, with_long_memory(tiny.model))),
    "Short Memory, trained": ("wan21", lambda tiny: trained(tiny, cam)),
    "Long Memory, trained": ("wan21", lambda tiny: trained(tiny, apm)),
    "Refine, blend x0": ("wan21", lambda tiny: refined(tiny, X0)),
    "Refine, blend step": ("wan21", lambda tiny: refined(tiny, STEP)),
    "Refine, blend step, noise in each": ("wan21", lambda tiny: refined(tiny, STEP, "euler_ancestral")),
    "Apply TTT": ("wan21", in_one_forward),
    "Apply TTT, a shot of strength 0.5": ("wan21", lambda tiny: in_one_forward(tiny, strength=0.5)),
    "Apply TTT, rates as trained": ("cogvideox10", lambda tiny: in_one_forward(tiny, LINEAR, AS_TRAINED)),
}
