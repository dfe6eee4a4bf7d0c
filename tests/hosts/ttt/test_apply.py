"""hosts/ttt/apply.py and forward.py: layers attach to a clone alone, and change what they should there."""

import pytest
import torch

import comfy.lora
import comfy.model_management

from longreel.engine.ttt.layer import AS_TRAINED, LACT, LINEAR, MLP, TTTConfig
from longreel.engine.ttt.order import Layout
from longreel.hosts import family_of, keys
from longreel.hosts.attention import patching
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt import forward as ttt_forward
from longreel.hosts.windows import latent_blend
from tests.hosts.attention_watcher import Watcher
from tests.hosts.ttt_cases import denoise, encode, layers, noise_for, plan


@pytest.mark.parametrize("kind", [MLP, LINEAR, LACT])
def test_new_layers_leave_the_output_unchanged_to_the_bit(tiny, every_tiny, kind):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline, batch=2)
    plain = denoise(loaded.model, conds, noise)
    assert torch.equal(denoise(ttt.apply(loaded.model, None, kind=kind), conds, noise), plain)


@pytest.mark.parametrize(
    ("kind", "weights"), [(MLP, {"W1", "b1", "W2", "b2"}), (LINEAR, {"W1", "b1"}), (LACT, {"w1", "w2", "w3"})]
)
def test_new_layers_are_of_the_kind_asked_for(tiny, kind, weights):
    model = ttt.apply(tiny("wan21").model, None, kind=kind)
    for layer in model.model_options["transformer_options"][keys.TTT_LAYERS].values():
        names = {name.rpartition(".")[2] for name, _ in layer.named_parameters()}
        assert names & {"W1", "b1", "W2", "b2", "w1", "w2", "w3"} == weights


@pytest.mark.parametrize(("width", "heads"), [(1536, 3), (3072, 6), (4096, 8), (64, 1)])
def test_new_lact_layers_have_wide_heads_where_they_divide_and_learn_from_three_frames(tiny, monkeypatch, width, heads):
    model = tiny("wan21").model
    monkeypatch.setattr(family_of(model), "width", lambda network: width)
    config = ttt._new_config(model, LACT, None, None, None)
    assert (config.head_width, config.heads, config.chunk, config.base_rate) == (width // heads, heads, 3, 0.001)


def test_open_layers_change_the_output_and_strength_scales_it(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise, file = encode(loaded, timeline), noise_for(timeline), layers(loaded.model)
    plain = denoise(loaded.model, conds, noise)
    none, some, half, full = (
        denoise(ttt.apply(loaded.model, file, strength), conds, noise) for strength in (0.0, 0.01, 0.5, 1.0)
    )
    assert torch.equal(none, plain)
    small, middle, large = ((out - plain).norm() for out in (some, half, full))
    assert 0 < small < middle < large


def test_layers_stand_behind_attention(tiny, every_tiny):
    """The same by hooks on the network's own modules, where one segment is all that it sees."""
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    model = ttt.apply(loaded.model, layers(loaded.model))
    expected, network = denoise(model, conds, noise), loaded.model.model.diffusion_model
    layer_of = model.model_options["transformer_options"][keys.TTT_LAYERS]
    frames = -(-4 // family_of(model).patch_size(network)[0])

    def read(number, attention):
        text = (attention.shape[1] - frames * 16) if every_tiny.family in ("cogvideox", "hunyuan_video") else 0
        rows = 2 if every_tiny.family == "ltxv" or every_tiny.name == "wan22_5b" else 4
        with torch.no_grad():
            return layer_of[number](attention, Layout((text,), ((0, frames),), rows, rows))

    plain, hooks = loaded.model.clone(), []
    if every_tiny.family == "hunyuan_video":

        def behind(attention, options):
            return read(options["block_index"] + 2 * (options["block_type"] == "single"), attention)

        plain.set_model_patch(behind, "attn1_output_patch")
    else:
        of_block = {"wan": "self_attn", "ltxv": "attn1", "cogvideox": "attn_out"}[every_tiny.family]
        for number, block in enumerate(ttt_forward.segments_of(model).family.blocks(network)):
            module = getattr(block, of_block)
            hooks.append(module.register_forward_hook(lambda module, args, out, number=number: read(number, out)))
    try:
        out = denoise(plain, conds, noise)
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(out, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [MLP, LINEAR, LACT])
def test_only_the_chosen_blocks_carry_layers(tiny, kind):
    loaded = tiny("wan21")
    timeline = plan(loaded, shots=1)
    conds, noise, file = encode(loaded, timeline), noise_for(timeline), layers(loaded.model, kind)
    outs = [
        denoise(ttt.apply(loaded.model, file, blocks=blocks), conds, noise)
        for blocks in (frozenset({1}), frozenset({2}), frozenset({1, 2}), None)
    ]
    assert all(not torch.allclose(a, b) for number, a in enumerate(outs) for b in outs[:number])


def test_layers_are_no_part_of_the_model_and_no_other_clone_sees_them(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    names, lora_keys = (
        set(loaded.model.model.state_dict()),
        set(comfy.lora.model_lora_keys_unet(loaded.model.model, {})),
    )
    plain = denoise(loaded.model, conds, noise)
    model = ttt.apply(loaded.model, layers(loaded.model))
    changed = denoise(model, conds, noise)
    assert not torch.allclose(changed, plain)
    assert set(model.model.state_dict()) == names
    assert set(comfy.lora.model_lora_keys_unet(model.model, {})) == lora_keys
    assert torch.equal(denoise(loaded.model, conds, noise), plain)
    assert torch.equal(denoise(model.clone(), conds, noise), changed)
    changed_by_forward = [
        module for module in model.model.diffusion_model.modules() if getattr(vars(module).get("forward"), "func", None)
    ]
    assert not changed_by_forward


def test_comfyui_loads_the_layers_beside_the_model(tiny):
    loaded = tiny("wan21")
    model = ttt.apply(loaded.model, layers(loaded.model))
    (patcher,) = model.get_nested_additional_models()
    assert patcher.model_size() == sum(value.nbytes for value in patcher.model.state_dict().values()) > 0
    timeline = plan(loaded, shots=1)
    seen = []

    def note(x0, *args):
        seen.append(
            any(
                entry.model is not None and entry.model.model is patcher.model
                for entry in comfy.model_management.current_loaded_models
            )
        )
        return x0

    model.set_model_sampler_post_cfg_function(lambda args: note(args["denoised"]))
    denoise(model, encode(loaded, timeline), noise_for(timeline))
    assert seen == [True]


def test_sizes_that_do_not_divide_by_the_chunk_are_read_whole(tiny):
    """5 frames of 16 tokens: 80 tokens in chunks of 64."""
    loaded = tiny("wan21")
    timeline = plan(loaded, shots=1, frames=5)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    changed = noise.clone()
    changed[:, :, -1] += 1.0  # in the last, short chunk
    model = ttt.apply(loaded.model, layers(loaded.model, chunk=64))
    first, second = denoise(model, conds, noise), denoise(model, conds, changed)
    assert torch.isfinite(first).all() and not torch.allclose(first[:, :, 0], second[:, :, 0])


def test_features_work_beside_layers_inside_a_window(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    timeline = plan(loaded, shots=1)
    conds, noise, file = encode(loaded, timeline), noise_for(timeline), layers(loaded.model)
    denoise(patching.attach(loaded.model, feature), conds, noise)
    alone = [(call.kind, call.block, call.q.shape) for call in feature.calls]
    feature.calls.clear()
    model = ttt.apply(patching.attach(loaded.model, feature), file)
    assert torch.equal(denoise(model, conds, noise), denoise(ttt.apply(loaded.model, file), conds, noise))
    assert [(call.kind, call.block, call.q.shape) for call in feature.calls] == alone


def test_blended_windows_are_segments_of_their_own(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded, shots=2, transition="blend")
    model = latent_blend.attach(ttt.apply(loaded.model, None), timeline, "triangle")
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    expected = denoise(latent_blend.attach(loaded.model, timeline, "triangle"), conds, noise)
    assert torch.equal(denoise(model, conds, noise), expected)


def test_a_lora_changes_a_model_with_layers_too(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    model = ttt.apply(loaded.model, None)
    key = "diffusion_model.blocks.1.self_attn.o.weight"
    plain = denoise(model, conds, noise)
    with_layers, without = model.clone(), loaded.model.clone()
    for patched in (with_layers, without):
        assert patched.add_patches({key: (torch.full((64, 64), 0.05),)}) == [key]
    out = denoise(with_layers, conds, noise)
    assert torch.equal(out, denoise(without, conds, noise)) and not torch.allclose(out, plain)


def test_the_papers_numbers_hold_for_its_layers_alone(tiny):
    loaded = tiny("cogvideox10")
    config = layers(loaded.model).config
    published = TTTConfig(config.kind, config.width, config.heads, config.chunk, config.base_rate, rates=AS_TRAINED)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    plain = denoise(loaded.model, conds, noise)
    network, seen = loaded.model.model.diffusion_model, []

    def note(args):
        seen.append((network.blocks[0].norm1.norm.eps, network.norm_out.norm.eps, network.spatial_interpolation_scale))
        return args["denoised"]

    for file in (layers(loaded.model, config=published), layers(loaded.model)):
        model = ttt.apply(loaded.model, file, strength=0.0)
        model.set_model_sampler_post_cfg_function(note)
        out = denoise(model, conds, noise)
    assert seen == [(1e-6, 1e-6, 1.0), (1e-5, 1e-5, 1.875)]
    assert torch.equal(out, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "Wan 2.2 5B"}, "trained for Wan 2.2 5B and this model is Wan;"),
        ({"blocks": 30}, "trained for 30 blocks and this model has 4;"),
        ({"config": TTTConfig(MLP, 128, 8, 16, 0.1)}, "trained for 128 channels and this model has 64;"),
        ({"config": TTTConfig(MLP, 64, 2, 16, 0.1)}, r"block 0: .* has shape \[4, 1, 64\], the block \[2, 1, 64\]"),
        (
            {"config": TTTConfig(LINEAR, 64, 4, 16, 0.1)},
            "block 0: 2 of 22 weights are not this TTT block's, first ttt.W2",
        ),
    ],
)
def test_a_file_of_another_model_is_refused_with_both_numbers(tiny, change, message):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match=message):
        ttt.apply(loaded.model, layers(loaded.model, **change))


def test_numbers_out_of_range_and_second_sets_are_refused(tiny):
    model = tiny("wan21").model
    with pytest.raises(ValueError, match="a strength of 1.5 is not 0 to 1"):
        ttt.apply(model, None, strength=1.5)
    with pytest.raises(ValueError, match="block 4 is asked for and this model has 4"):
        ttt.apply(model, None, blocks=frozenset({4}))
    with pytest.raises(ValueError, match="unknown kind of TTT layer 'mamba'; use linear, mlp, lact"):
        ttt.apply(model, None, kind="mamba")
    with pytest.raises(ValueError, match="carries TTT layers already; wire the model from before"):
        ttt.apply(ttt.apply(model, None), None)


def test_networks_that_attend_elsewhere_too_are_refused_by_name(tiny, monkeypatch):
    class VaceWanModel(type(tiny("wan21").model.model.diffusion_model)):
        pass

    monkeypatch.setattr(tiny("wan21").model.model.diffusion_model, "__class__", VaceWanModel)
    with pytest.raises(ValueError, match="VaceWanModel is built on Wan"):
        ttt.apply(tiny("wan21").model, None)
