"""What ComfyUI is asked to leave free: the memory of one window, and beside it what the features keep."""

import math

import pytest
import torch

import comfy.patcher_extension

from longreel.engine.attention.kv_share import CHOSEN, PREVIOUS
from longreel.hosts import block_count, family_of
from longreel.hosts.attention import patching
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for

KEPT_LAYERS = 1000  # so many that tiny models feel it


class Keeper(Watcher):
    """A feature that says it keeps the keys and values of many layers."""

    def kept_bytes(self, bytes_of_layer):
        return KEPT_LAYERS * bytes_of_layer


class Asked:
    """The innermost PREPARE_SAMPLING wrapper: the shape that core's estimate is made of."""

    def __init__(self, model):
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, "asked", self)

    def __call__(self, executor, patcher, noise_shape, conds, *args, **kwargs):
        self.shape = tuple(noise_shape)
        return executor(patcher, noise_shape, conds, *args, **kwargs)


def asked(loaded, timeline, feature=None, feature_first=True) -> tuple[int, ...]:
    model = loaded.model
    if feature and feature_first:
        model = patching.attach(model, feature)
    model = latent_blend.attach(model, timeline, "triangle")
    if feature and not feature_first:
        model = patching.attach(model, feature)
    seen = Asked(model)
    tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1)
    return seen.shape


@pytest.mark.parametrize("feature_first", [True, False])
def test_what_a_feature_keeps_is_asked_for_beside_one_window(tiny, every_tiny, feature_first):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    window = asked(loaded, timeline)
    assert window[2] <= timeline.segment_frames + 1
    assert asked(loaded, timeline, Watcher(), feature_first) == window
    with_feature = asked(loaded, timeline, Keeper(), feature_first)
    network = loaded.model.model.diffusion_model
    family = family_of(loaded.model)
    tokens = math.prod(-(-size // patch) for size, patch in zip(window[2:], family.patch_size(network), strict=True))
    layer = 2 * tokens * family.width(network) * torch.float32.itemsize
    frame = loaded.model.memory_required([*window[:2], 1, *window[3:]])
    assert with_feature[2] == window[2] + math.ceil(KEPT_LAYERS * layer / frame)
    assert with_feature[:2] + with_feature[3:] == window[:2] + window[3:]


@pytest.mark.parametrize("source", [PREVIOUS, CHOSEN])
def test_kv_share_keeps_what_it_says_at_most(tiny, every_tiny, source, monkeypatch):
    from longreel.hosts.features import kv_share

    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    feature = kv_share.KVShare(
        mode="fast",
        source=source,
        source_shot=1,
        shots=(),
        across_cuts=True,
        join="replace",
        placement="aligned",
        strength=1.0,
        share_text=False,
        layers=frozenset(range(block_count(loaded.model))),
        start_percent=0.0,
        end_percent=1.0,
        mask=None,
    )
    most = 0
    attend = kv_share.KVShareRun.attend

    def measured(run, call, next_attention):
        nonlocal most
        out = attend(run, call, next_attention)
        parts = [part for sites in run.kept.values() for kept in sites.values() for part in kept.parts.values()]
        most = max(
            most,
            sum(part.k[:, :, part.text_tokens :].nbytes + part.v[:, :, part.text_tokens :].nbytes for part in parts),
        )
        return out

    monkeypatch.setattr(kv_share.KVShareRun, "attend", measured)
    model = latent_blend.attach(patching.attach(loaded.model, feature), timeline, "triangle")
    tiny_sampling.sample(model, *encode(loaded, timeline), empty(timeline), steps=1, cfg=3.0)
    family, network = family_of(loaded.model), loaded.model.model.diffusion_model
    window = (timeline.segment_frames + 1, *empty(timeline).shape[3:])
    tokens = math.prod(-(-size // patch) for size, patch in zip(window, family.patch_size(network), strict=True))
    said = feature.kept_bytes(2 * tokens * family.width(network) * torch.float32.itemsize)
    assert 0.5 * said < most <= said
