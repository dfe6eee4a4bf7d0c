"""What newer ComfyUI does around the attention slot, acted out on this one: protocols of 0.31 to 0.46.

The shims follow what was read of the newer sources (an override that installs itself anew before each sampling, an
attention that a block names in `preferred_attention`). They are no substitute for running those releases.
"""

import pytest
import torch

import comfy.ldm.modules.attention as core_attention
import comfy.ldm.wan.model as wan
from comfy.patcher_extension import CallbacksMP

from longreel.hosts.attention import patching
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher


def sample(loaded, model):
    conds = [tiny_sampling.encode(loaded.clip, prompt) for prompt in ("a red cat", "blurry")]
    return tiny_sampling.sample(model, *conds, torch.zeros(1, 16, 3, 8, 8), steps=2)


def twice(call, next_attention):
    """Change attention visibly, with more keys than queries, so that overrides of equal lengths step aside."""
    k, v = (torch.cat([t, t[:, :, :1]], dim=2) for t in (call.k, call.v))
    return next_attention(call.q, k, v, call.mask)


def reinstalling(model, calls):
    """Return a clone whose override puts itself back before each step, and is dense for q != k."""
    model = model.clone()

    def override(func, q, k, v, heads, mask=None, **kwargs):
        calls.append(q.shape == k.shape)
        out = func(q, k, v, heads, mask=mask, **kwargs)
        return out * 0.5 if q.shape == k.shape else out

    def install(patcher, timestep, model_options, *args):
        model_options["transformer_options"][patching.OVERRIDE] = override

    model.add_callback(CallbacksMP.ON_PREPARE_STATE, install)
    return model


@pytest.mark.parametrize("act", [None, twice])
def test_an_override_that_installs_itself_each_step_works_before_and_after_a_tap(tiny, act):
    loaded, results, calls = tiny("wan21"), [], []
    alone = sample(loaded, reinstalling(loaded.model, []))
    for longreel_first in (False, True):
        feature, calls = Watcher(act), []
        model = loaded.model if longreel_first else reinstalling(loaded.model, calls)
        model = patching.attach(model, feature)
        results.append(sample(loaded, reinstalling(model, calls) if longreel_first else model))
        assert feature.calls and calls
        assert (False in calls) if act else (True in calls)
    assert torch.equal(*results)
    assert torch.equal(results[0], alone) == (act is None)


def test_an_attention_that_blocks_prefer_is_handed_on_by_the_tap(tiny, monkeypatch):
    """Every block names an attention, and core's function takes it where it comes through the override's arguments."""
    loaded, preferred = tiny("wan21"), []
    plain = core_attention.attention_pytorch

    def attention(q, k, v, heads, *args, preferred_attention=None, **kwargs):
        if preferred_attention is not None:
            preferred.append(preferred_attention)
        return plain.__wrapped__(q, k, v, heads, *args, **kwargs)

    def block_attention(*args, **kwargs):
        return core_attention.wrap_attn(attention)(*args, preferred_attention="int8", **kwargs)

    monkeypatch.setattr(wan, "optimized_attention", block_attention)
    expected = sample(loaded, loaded.model)
    calls = len(preferred)
    feature = Watcher()
    assert torch.equal(sample(loaded, patching.attach(loaded.model, feature)), expected)
    assert len(feature.calls) == calls == len(preferred) - calls > 0
