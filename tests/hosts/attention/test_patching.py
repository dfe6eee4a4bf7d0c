"""The tap on every family's attention: what a feature sees and leaves alone, and other nodes' patches beside it."""

import gc
import json
from types import SimpleNamespace

import pytest
import torch

import comfy.context_windows
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import node_helpers
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_nag import NAGuidance

from longreel.hosts import keys
from longreel.hosts.attention import patching
from longreel.hosts.families.sites import CROSS, JOINT, SELF
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.tiny_models import Checkpoint, draw_weights

FRAMES = 5  # latent
SHORT, LONG = "a red cat", "the quick brown fox jumps over the lazy dog and then runs home to sleep for a long time"


def sample(loaded, model, tiny_model=None, positive=SHORT, negative="blurry", batch=1, **options):
    shape = tiny_model.latent_shape(FRAMES) if tiny_model else (1, 16, FRAMES, 8, 8)
    conds = [
        tiny_sampling.encode(loaded.clip, prompt) if isinstance(prompt, str) else prompt
        for prompt in (positive, negative)
    ]
    latent = torch.zeros(shape).repeat(batch, 1, 1, 1, 1)
    return tiny_sampling.sample(model, *conds, latent, **{"steps": 2, **options})


def kinds_of(tiny_model) -> list[tuple[str, int]]:
    """(kind, block) in the order in which the family's network attends."""
    joint = {"cogvideox": 3, "hunyuan_video": 4, "hunyuan_video15": 3}.get(tiny_model.family)
    if joint:
        return [(JOINT, block) for block in range(joint)]
    blocks = {"wan": 4, "ltxv": 3, "kandinsky": 3}[tiny_model.family]
    return [(kind, block) for block in range(blocks) for kind in (SELF, CROSS)]


def seen(feature: Watcher) -> list[tuple[str, int]]:
    return [(call.kind, call.block) for call in feature.calls]


def network_of(model):
    return model.model.diffusion_model


# What a feature sees, and that seeing changes nothing


@pytest.mark.parametrize("batch", [1, 2])
def test_a_feature_that_only_passes_on_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny, batch):
    loaded = tiny(every_tiny.name)
    feature = Watcher()
    plain = sample(loaded, loaded.model, every_tiny, batch=batch)
    assert torch.equal(sample(loaded, patching.attach(loaded.model, feature), every_tiny, batch=batch), plain)
    assert feature.calls


def test_every_block_is_seen_once_per_forward_in_order(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    sample(loaded, patching.attach(loaded.model, feature), every_tiny, steps=2)
    assert seen(feature) == 2 * kinds_of(every_tiny)
    assert [len(evaluation.forwards) for evaluation in feature.evaluations] == [1, 1]


def test_grid_text_and_rows_are_those_of_the_attention(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    sample(loaded, patching.attach(loaded.model, feature), every_tiny, batch=2)
    for call in feature.calls:
        frames, rows, columns = call.forward.grid
        assert frames == -(-FRAMES // call.forward.patch_frames)
        assert call.rows == (1, 0) and call.entries == (0, 0)  # ComfyUI shows the negative prompt first
        assert call.q.shape[0] == 4  # two prompts, two videos
        assert (
            call.q.shape[2]
            == call.text_tokens + call.forward.video_tokens
            == call.text_tokens + frames * rows * columns
        )
        assert call.text_tokens == (16 if call.kind == JOINT else 0)
        assert call.k.shape[2] == (16 if call.kind == CROSS else call.q.shape[2])


def test_prompts_of_different_length_come_in_forwards_of_their_own(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    plain = sample(loaded, loaded.model, every_tiny, positive=LONG, steps=1)
    out = sample(loaded, patching.attach(loaded.model, feature), every_tiny, positive=LONG, steps=1)
    assert torch.equal(out, plain)
    assert seen(feature) == 2 * kinds_of(every_tiny)
    lengths = {
        call.rows: call.k.shape[2] - (call.forward.video_tokens if call.kind == JOINT else 0)
        for call in feature.calls
        if call.kind != SELF
    }
    assert lengths == {(0,): 20, (1,): 16}
    assert len(feature.evaluations) == 1 and len(feature.evaluations[0].forwards) == 2


def test_entries_of_one_prompt_are_told_apart(tiny):
    loaded, feature = tiny("wan21"), Watcher()
    both = tiny_sampling.encode(loaded.clip, SHORT) + tiny_sampling.encode(loaded.clip, LONG)
    sample(loaded, patching.attach(loaded.model, feature), positive=both, steps=1)
    pairs = {
        (row, entry, call.k.shape[2])
        for call in feature.calls
        if call.kind == CROSS
        for row, entry in zip(call.rows, call.entries, strict=True)
    }
    assert pairs == {(0, 0, 16), (0, 1, 20), (1, 0, 16)}


def test_features_are_folded_the_last_one_outermost(tiny):
    loaded, order = tiny("wan21"), []

    def note(name):
        def act(call, next_attention):
            order.append(name)
            return next_attention(call.q, call.k, call.v, call.mask)

        return act

    model = patching.attach(loaded.model, Watcher(note("first"), name="First"))
    sample(loaded, patching.attach(model, Watcher(note("second"), name="Second")), steps=1)
    assert order == ["second", "first"] * 8


def test_what_one_feature_changes_the_next_one_sees(tiny):
    loaded = tiny("wan21")
    inner = Watcher(name="Inner")
    outer = Watcher(lambda call, next_attention: next_attention(call.q, call.k, 2 * call.v, call.mask), name="Outer")
    sample(loaded, patching.attach(patching.attach(loaded.model, inner), outer), steps=1)
    assert all(torch.equal(a.v, 2 * b.v) for a, b in zip(inner.calls, outer.calls, strict=True))


def test_the_text_refiner_of_hunyuan_video_is_never_handed_on(tiny, tiny_models):
    loaded, feature, calls = tiny("hunyuan_video"), Watcher(), []
    model = overridden(loaded.model, lambda func, *args, **kwargs: calls.append(1) or func(*args, **kwargs))
    sample(loaded, patching.attach(model, feature), tiny_models["hunyuan_video"], steps=1)
    assert len(calls) == len(feature.calls) + 2  # the refiner has two blocks


@pytest.fixture(scope="module")
def image_to_video():
    """A tiny Wan image-to-video MODEL through core's loader; its pictures have 5 CLIP tokens."""
    from comfy.ldm.wan.model import WanModel

    module = WanModel(
        model_type="i2v",
        in_dim=36,
        out_dim=16,
        dim=64,
        ffn_dim=128,
        num_heads=4,
        num_layers=3,
        text_dim=32,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    config = json.dumps({"transformer": {"num_heads": 4, "text_dim": 32}})
    weights = draw_weights(Checkpoint(module, seed=31))
    return comfy.sd.load_diffusion_model_state_dict(weights, metadata={"config": config})


@pytest.mark.parametrize("picture", [True, False])
def test_only_the_texts_half_of_an_image_to_video_cross_attention_is_handed_on(tiny, image_to_video, picture):
    loaded, feature, calls = tiny("wan21"), Watcher(), []
    positive = tiny_sampling.encode(loaded.clip, SHORT)
    negative = tiny_sampling.encode(loaded.clip, "blurry")
    if picture:
        tokens = SimpleNamespace(penultimate_hidden_states=torch.randn(1, 5, 1280))
        positive, negative = (
            node_helpers.conditioning_set_values(conds, {"clip_vision_output": tokens})
            for conds in (positive, negative)
        )

    def note(func, q, k, *args, **kwargs):
        calls.append(k)
        return func(q, k, *args, **kwargs)

    model = overridden(image_to_video, note)
    plain = sample(loaded, image_to_video, positive=positive, negative=negative, steps=1)
    out = sample(loaded, patching.attach(model, feature), positive=positive, negative=negative, steps=1)
    assert torch.equal(out, plain)
    assert seen(feature) == [(kind, block) for block in range(3) for kind in (SELF, CROSS)]
    assert [k.shape[1] for k in calls] == [80, 5 if picture else 16, 16] * 3  # self, picture, text
    handed = [call.k for call in feature.calls if call.kind == CROSS]
    assert all(torch.equal(k.transpose(1, 2).flatten(2), text) for k, text in zip(handed, calls[2::3], strict=True))


# Other nodes' patches, before and after ours


def overridden(model, override):
    """A clone with another node's attention override, chained as such nodes do."""
    model = model.clone()
    options = model.model_options["transformer_options"] = dict(model.model_options.get("transformer_options", {}))
    before = options.get("optimized_attention_override")

    def chained(func, *args, **kwargs):
        return override(func if before is None else lambda *a, **k: before(func, *a, **k), *args, **kwargs)

    options["optimized_attention_override"] = chained
    return model


def weaker_attention(model):
    return overridden(model, lambda func, *args, **kwargs: 0.9 * func(*args, **kwargs))


def replaced_block(model):
    model = model.clone()

    def replace(args, extra):
        out = extra["original_block"](args)
        return {**out, "img": 0.9 * out["img"]}

    model.set_model_patch_replace(replace, "dit", "double_block", 1)
    return model


def self_attention_patch(model):
    model = model.clone()
    model.set_model_attn1_patch(lambda args: 0.9 * args["x"])
    return model


def joint_attention_patch(model):
    model = model.clone()
    model.set_model_attn1_patch(lambda q, k, v, pe, attn_mask, extra_options: {"v": 0.9 * v})
    return model


def normalized_attention_guidance(model):
    return NAGuidance.execute(model, 5.0, 0.5, 1.5)[0]


def lora(model):
    model = model.clone()
    weights = model.model.state_dict()
    query = ("self_attn.q.weight", "blocks.0.q.weight", "linear1.weight", "attn1.to_q.weight")  # of any family
    key = next(key for key in weights if key.endswith(query))
    change = torch.randn(weights[key].shape, generator=torch.Generator().manual_seed(4))
    model.add_patches({key: ("diff", (change,))}, 1.0)
    return model


def object_patch(model):
    """Another node's own forward of an attention module, around the one that it found."""
    model = model.clone()
    paths = {
        "WanModel": "blocks.1.self_attn",
        "CogVideoXTransformer3DModel": "blocks.1",
        "HunyuanVideo": "single_blocks.1",
        "LTXVModel": "transformer_blocks.1.attn1",
    }
    path = f"diffusion_model.{paths[type(network_of(model)).__name__]}.forward"
    original = model.get_model_object(path)

    def forward(*args, **kwargs):
        out = original(*args, **kwargs)
        return tuple(0.9 * part for part in out) if isinstance(out, tuple) else 0.9 * out

    model.add_object_patch(path, forward)
    return model


def context_windows(model):
    return WanContextWindowsManualNode.execute(model, 9, 4, "standard_static", 1, False, "pyramid", False)[0]


OF_EVERY_FAMILY = [weaker_attention, lora, object_patch]
FOREIGN = [(patch, name) for patch in OF_EVERY_FAMILY for name in ("wan21", "cogvideox10", "hunyuan_video", "ltxv")]
FOREIGN += [(replaced_block, name) for name in ("wan21", "hunyuan_video", "ltxv")]
FOREIGN += [
    (self_attention_patch, "wan21"),
    (context_windows, "wan21"),
    (joint_attention_patch, "hunyuan_video"),
    (normalized_attention_guidance, "hunyuan_video"),
]


@pytest.mark.parametrize("patch, name", FOREIGN, ids=lambda value: value if isinstance(value, str) else value.__name__)
@pytest.mark.parametrize("ours_first", [True, False])
def test_other_nodes_patches_work_as_without_us(tiny, tiny_models, patch, name, ours_first):
    loaded, feature = tiny(name), Watcher()
    foreign = sample(loaded, patch(loaded.model), tiny_models[name])
    model = loaded.model
    both = patch(patching.attach(model, feature)) if ours_first else patching.attach(patch(model), feature)
    assert torch.equal(sample(loaded, both, tiny_models[name]), foreign)
    assert not torch.equal(foreign, sample(loaded, loaded.model, tiny_models[name]))
    assert seen(feature) == kinds_of(tiny_models[name]) * len(feature.evaluations)


@pytest.mark.parametrize("patch, name", FOREIGN, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_feature_acts_the_same_whether_others_come_before_or_after_it(tiny, tiny_models, patch, name):
    loaded = tiny(name)

    def doubled() -> Watcher:
        return Watcher(lambda call, next_attention: next_attention(call.q, call.k, 2 * call.v, call.mask))

    after = sample(loaded, patch(patching.attach(loaded.model, doubled())), tiny_models[name])
    before = sample(loaded, patching.attach(patch(loaded.model), doubled()), tiny_models[name])
    assert torch.equal(after, before)
    assert not torch.equal(after, sample(loaded, patch(loaded.model), tiny_models[name]))


def test_windows_of_core_are_seen_with_the_grid_of_each_window(tiny):
    loaded, feature = tiny("wan21"), Watcher()
    sample(loaded, patching.attach(context_windows(loaded.model), feature), steps=1)
    frames = [evaluation.forwards[0].grid[0] for evaluation in feature.evaluations]
    assert len(frames) > 1 and set(frames) <= {3, 4}  # 3, and core's own frame in front of later ones
    assert all(call.q.shape[2] == call.forward.video_tokens for call in feature.calls)


# Other nodes' patches that leave nothing to work on


def skip_block(model):
    model = model.clone()
    model.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 1)
    return model


def attention_of_their_own(model):
    """A forward that calls its attention without transformer_options, as some nodes do."""
    model = model.clone()
    module = network_of(model).blocks[1].self_attn

    def forward(x, freqs, transformer_options=None):
        v = module.v(x)
        return module.o(comfy.ldm.modules.attention.optimized_attention(v, v, v, heads=module.num_heads))

    model.add_object_patch("diffusion_model.blocks.1.self_attn.forward", forward)
    return model


def module_passed_by(model):
    """A block replacement that calls its attention's forward, not the module, and hides our options from the rest."""
    model = model.clone()
    attention = network_of(model).blocks[1].self_attn

    def forward(x, freqs, transformer_options=None):
        return type(attention).forward(attention, x, freqs, {})

    model.add_object_patch("diffusion_model.blocks.1.self_attn.forward", forward)
    return model


def override_at_run_time(model):
    """Another wrapper of the network that puts its override in the place of ours and never calls it."""
    model = model.clone()

    def wrapper(executor, *args, **kwargs):
        override = {"optimized_attention_override": lambda func, *a, **k: func(*a, **k)}
        args = [{**arg, **override} if isinstance(arg, dict) else arg for arg in args]
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "foreign", wrapper)
    return model


@pytest.mark.parametrize(
    "patch, missed, first",
    [(skip_block, 2, 1), (attention_of_their_own, 1, 1), (module_passed_by, 1, 1), (override_at_run_time, 8, 0)],
)
def test_a_patch_that_keeps_calls_from_a_feature_fails_by_name(tiny, patch, missed, first):
    loaded = tiny("wan21")
    model = patch(patching.attach(loaded.model, Watcher(name="Longreel KV Share")))
    with pytest.raises(
        RuntimeError,
        match=f"{missed} of 8 attention calls that Longreel KV Share works on never came "
        rf"\(the first: self attention of block {first}\).* choose other layers",
    ):
        sample(loaded, model)


@pytest.mark.parametrize("patch", [skip_block, attention_of_their_own, module_passed_by])
def test_a_patch_of_blocks_that_no_feature_wants_is_fine(tiny, patch):
    loaded, feature = tiny("wan21"), Watcher(wants=lambda kind, block: block != 1)
    out = sample(loaded, patch(patching.attach(loaded.model, feature)))
    assert torch.equal(out, sample(loaded, patch(loaded.model)))


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_node_that_answers_for_the_network_fails_by_name(tiny, ours_first):
    """Core's EasyCache leaves out evaluations that it takes for foreseeable; none is missed where none is wanted."""
    loaded, feature = tiny("wan21"), Watcher()

    def cached(model):
        return EasyCacheNode.execute(model, 100.0, 0.15, 0.95, False)[0]

    model = loaded.model
    model = cached(patching.attach(model, feature)) if ours_first else patching.attach(cached(model), feature)
    with pytest.raises(RuntimeError, match="Watcher"):
        sample(loaded, model, steps=8)
    idle = patching.attach(cached(loaded.model), Watcher(wants=lambda kind, block: False))
    assert torch.equal(sample(loaded, idle, steps=8), sample(loaded, cached(loaded.model), steps=8))


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_node_that_changes_prompts_behind_our_back_fails_by_name(tiny, ours_first):
    loaded = tiny("wan21")

    def changed(model):
        model = model.clone()

        def wrapper(executor, network, conds, *args):
            return executor(network, [[{**cond, "uuid": "another"} for cond in entries] for entries in conds], *args)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.CALC_COND_BATCH, "foreign", wrapper)
        return model

    if ours_first:
        with pytest.raises(RuntimeError, match="none of the 1 that Longreel was told of"):
            sample(loaded, changed(patching.attach(loaded.model, Watcher())))
    else:
        assert torch.isfinite(sample(loaded, patching.attach(changed(loaded.model), Watcher()))).all()


# Masks


def test_a_features_mask_holds_though_another_override_ignores_masks(tiny, every_tiny):
    loaded, results = tiny(every_tiny.name), []

    def first_half(call, next_attention):
        hidden = torch.zeros(1, 1, 1, call.k.shape[2])
        hidden[..., call.k.shape[2] // 2 :] = torch.finfo(torch.float32).min
        mask = hidden if call.mask is None else call.mask + hidden
        out = next_attention(call.q, call.k, call.v, mask)
        results.append((call, mask, out))
        return out

    model = overridden(loaded.model, lambda func, q, k, v, heads, mask=None, **kwargs: func(q, k, v, heads, **kwargs))
    sample(loaded, patching.attach(model, Watcher(first_half)), every_tiny, steps=1)
    for call, mask, out in results:
        exact = torch.nn.functional.scaled_dot_product_attention(call.q, call.k, call.v, mask)
        assert torch.allclose(out, exact, atol=1e-5)
        half = call.k.shape[2] // 2
        if call.mask is None:
            alone = torch.nn.functional.scaled_dot_product_attention(call.q, call.k[:, :, :half], call.v[:, :, :half])
            assert torch.allclose(out, alone, atol=1e-5)
    assert len(results) == len(kinds_of(every_tiny))


def test_the_networks_own_mask_reaches_features_with_four_axes_and_others_as_it_was(tiny, tiny_models):
    loaded, feature, masks = tiny("hunyuan_video"), Watcher(), []

    def note(func, *args, mask=None, **kwargs):
        masks.append(mask)
        return func(*args, mask=mask, **kwargs)

    facts = tiny_models["hunyuan_video"]
    prompts = [
        node_helpers.conditioning_set_values(
            tiny_sampling.encode(loaded.clip, text), {"attention_mask": torch.tensor([[1] * 9 + [0] * padding])}
        )
        for text, padding in ((LONG, 11), ("blurry", 7))
    ]  # core takes no two masks in one batch
    plain = sample(loaded, loaded.model, facts, *prompts, steps=1)
    model = patching.attach(overridden(loaded.model, note), feature)
    assert torch.equal(sample(loaded, model, facts, *prompts, steps=1), plain)
    assert {call.mask.ndim for call in feature.calls} == {4}
    joint = [mask for mask in masks if mask.ndim == 3]  # the refiner's have four
    for call, mask in zip(feature.calls, joint, strict=True):
        assert torch.equal(call.mask[:, 0], mask) and call.mask.shape[-1] == call.k.shape[2]


# State


def hooks_on(network) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in network.modules())


def assert_nothing_is_left(model, feature: Watcher):
    gc.collect()
    assert feature.runs and all(run() is None for run in feature.runs)
    assert hooks_on(network_of(model)) == 0
    options = model.model_options["transformer_options"]
    assert not {keys.RUNNING, keys.EVALUATION, keys.VISIT, keys.SEGMENT_AND_ROLE, patching.OVERRIDE} & set(options)


def test_nothing_is_left_behind_after_a_run(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    model = patching.attach(loaded.model, feature)
    sample(loaded, model, every_tiny)
    assert_nothing_is_left(model, feature)


@pytest.mark.parametrize("error", [ValueError, comfy.model_management.InterruptProcessingException])
def test_nothing_is_left_behind_after_an_error_or_an_interrupt(tiny, every_tiny, error):
    loaded = tiny(every_tiny.name)

    def fail(call, next_attention):
        raise error

    feature = Watcher(fail, wants=lambda kind, block: block == 1)
    model = patching.attach(loaded.model, feature)
    with pytest.raises(error):
        sample(loaded, model, every_tiny)
    assert_nothing_is_left(model, feature)
    assert torch.isfinite(sample(loaded, loaded.model, every_tiny)).all()


def test_two_clones_never_see_each_others_features(tiny):
    loaded, one, other = tiny("wan21"), Watcher(name="One"), Watcher(name="Other")
    base = patching.attach(loaded.model, Watcher(name="Base"))
    first, second = patching.attach(base, one), patching.attach(base, other)
    assert [f.name for f in patching.features_of(base.model_options)] == ["Base"]
    assert not patching.features_of(loaded.model.model_options)
    sample(loaded, first)
    assert one.calls and not other.calls
    one.calls.clear()
    sample(loaded, second)
    assert other.calls and not one.calls


def test_features_that_exclude_each_other_are_refused_by_name(tiny):
    one, other = Watcher(name="One"), Watcher(name="Other")
    other.excludes = {"One": "both want the first word"}
    for pair in [(one, other), (other, one)]:
        model = patching.attach(tiny("wan21").model, pair[0])
        with pytest.raises(ValueError, match="cannot work on one model: both want the first word; use one of the two"):
            patching.attach(model, pair[1])


def test_a_model_of_no_supported_family_is_refused_by_name():
    with pytest.raises(ValueError, match="SimpleNamespace is not a video model"):
        patching.attach(SimpleNamespace(model=SimpleNamespace()), Watcher())
