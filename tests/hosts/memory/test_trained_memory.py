"""hosts/memory/trained_memory.py: a memory is attached to a clone alone, and fits its model or is refused."""

from dataclasses import replace

import pytest
import torch

import comfy.lora
import comfy.model_management

from longreel.hosts import keys
from longreel.hosts.memory import apm, cam, trained_memory
from tests.hosts.memory_cases import TEXT_TOKENS, drawn, free, loss_of, lower_a_loss, random_latents, remembers, shown
from tests.hosts.ttt_cases import denoise, encode, noise_for, plan

MEMORIES = [cam, apm]


def random_memory(model, how):
    new = cam.with_cam(model, None) if how is cam else apm.with_apm(model, None, text_tokens=TEXT_TOKENS)
    return drawn(how.trained(new))


def with_memory(model, how, memory, strength: float = 1.0):
    return (cam.with_cam if how is cam else apm.with_apm)(model, memory, strength)


@pytest.mark.parametrize("how", MEMORIES)
def test_a_memory_is_no_part_of_the_model_and_no_other_clone_sees_it(tiny, every_tiny, how):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    names, lora_keys = (
        set(loaded.model.model.state_dict()),
        set(comfy.lora.model_lora_keys_unet(loaded.model.model, {})),
    )
    plain = denoise(loaded.model, conds, noise)
    model = remembers(with_memory(loaded.model, how, random_memory(loaded.model, how)), how, random_latents(noise))
    changed = denoise(model, conds, noise)
    assert not torch.allclose(changed, plain)
    assert set(model.model.state_dict()) == names
    assert set(comfy.lora.model_lora_keys_unet(model.model, {})) == lora_keys
    assert torch.equal(denoise(loaded.model, conds, noise), plain)
    assert torch.equal(denoise(model.clone(), conds, noise), changed)
    modules = list(model.model.diffusion_model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@pytest.mark.parametrize("how", MEMORIES)
def test_hooks_are_gone_after_an_interrupted_forward(tiny, how):
    loaded = tiny("wan21")
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    model = remembers(with_memory(loaded.model, how, random_memory(loaded.model, how)), how, random_latents(noise))

    def interrupt(args):
        raise comfy.model_management.InterruptProcessingException

    model.set_model_patch(interrupt, "attn2_patch")
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        denoise(model, conds, noise)
    modules = list(model.model.diffusion_model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@pytest.mark.parametrize("how", MEMORIES)
def test_comfyui_loads_a_memory_beside_the_model(tiny, how):
    loaded = tiny("wan21")
    model = with_memory(loaded.model, how, random_memory(loaded.model, how))
    (patcher,) = model.get_nested_additional_models()
    assert patcher.model_size() == sum(value.nbytes for value in patcher.model.state_dict().values()) > 0
    timeline = plan(loaded, shots=1)
    seen = []

    def note(args):
        seen.append(
            any(
                entry.model is not None and entry.model.model is patcher.model
                for entry in comfy.model_management.current_loaded_models
            )
        )
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(note)
    denoise(model, encode(loaded, timeline), noise_for(timeline))
    assert seen == [True]


def test_cam_sees_its_context_with_the_text_alone_whichever_memory_was_attached_first(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    frames, read = random_latents(noise), []
    memories = {how: random_memory(loaded.model, how) for how in MEMORIES}
    outs = []
    for order in ([cam], [cam, apm], [apm, cam]):
        model = loaded.model
        for how in order:
            model = remembers(with_memory(model, how, memories[how]), how, frames)
        module = model.model_options["transformer_options"][keys.CAM].module
        last = module.injectors[str(module.layers[-1])]
        hook = last.register_forward_pre_hook(lambda module, args: read.append(args[1].clone()))
        try:
            outs.append(denoise(model, conds, noise))
        finally:
            hook.remove()
    assert torch.equal(read[0], read[1]) and torch.equal(read[0], read[2])
    assert torch.equal(outs[1], outs[2]) and not torch.allclose(outs[0], outs[1])


@pytest.mark.parametrize("how", MEMORIES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "Wan 2.2 5B"}, "trained for Wan 2.2 5B and this model is Wan;"),
        ({"blocks": 30}, "trained for 30 blocks and this model has 4;"),
    ],
)
def test_a_memory_of_another_model_is_refused_with_both_numbers(tiny, how, change, message):
    model = tiny("wan21").model
    with pytest.raises(ValueError, match=message):
        with_memory(model, how, replace(random_memory(model, how), **change))


@pytest.mark.parametrize("how", MEMORIES)
def test_another_width_a_strength_out_of_range_and_a_second_memory_are_refused(tiny, how):
    model = tiny("wan21").model
    memory = random_memory(model, how)
    wider = replace(memory, config=replace(memory.config, width=128))
    with pytest.raises(ValueError, match="trained for 128 channels and this model has 64"):
        with_memory(model, how, wider)
    with pytest.raises(ValueError, match="a strength of 1.5 is not 0 to 1"):
        with_memory(model, how, memory, 1.5)
    with pytest.raises(ValueError, match="carries a trained (CAM|APM) already; wire the model from before"):
        with_memory(with_memory(model, how, memory), how, memory)


@pytest.mark.parametrize("how", MEMORIES)
def test_networks_that_attend_elsewhere_too_are_refused_by_name(tiny, monkeypatch, how):
    class VaceWanModel(type(tiny("wan21").model.model.diffusion_model)):
        pass

    monkeypatch.setattr(tiny("wan21").model.model.diffusion_model, "__class__", VaceWanModel)
    with pytest.raises(ValueError, match="VaceWanModel is built on Wan"):
        with_memory(tiny("wan21").model, how, None)


@pytest.mark.parametrize("how", MEMORIES)
def test_what_was_trained_is_copied(tiny, how):
    model = with_memory(tiny("wan21").model, how, random_memory(tiny("wan21").model, how))
    saved = how.trained(model)
    with torch.no_grad():
        for value in how.parameters(model).values():
            value.add_(1)
    later = how.trained(model)
    assert all(torch.equal(saved.weights[name] + 1, later.weights[name]) for name in saved.weights)


@pytest.mark.parametrize("how", MEMORIES)
@pytest.mark.parametrize("name", ["wan21", "hunyuan_video", "ltxv"])
def test_gradients_are_the_slope_of_the_loss(tiny, name, how):
    """Where blocks overwrite what they are given (HunyuanVideo, LTXV), as where they do not."""
    loaded = tiny(name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    given = shown(loaded.model, conds, noise)
    model = with_memory(loaded.model, how, random_memory(loaded.model, how))
    parameters, options = how.parameters(model), how.remembering(model, random_latents(noise))

    with trained_memory.training(model):
        gradients = dict(
            zip(parameters, torch.autograd.grad(loss_of(model, options, given), parameters.values()), strict=True)
        )
    norm = sum(gradient.square().sum() for gradient in gradients.values()).sqrt()
    step = 1e-3

    def moved(by: float) -> float:
        with torch.no_grad():
            for key, gradient in gradients.items():
                parameters[key].add_(by * gradient / norm)
            return loss_of(model, options, given).item()

    slope = (moved(step) - moved(-2 * step)) / (2 * step)
    assert slope == pytest.approx(norm.item(), rel=0.05)


@pytest.mark.parametrize("how", MEMORIES)
def test_what_a_node_loaded_can_be_trained(tiny_models, how):
    """ComfyUI runs nodes in inference mode, whose tensors have no gradients; the network keeps its own weights."""
    with torch.inference_mode():
        loaded = tiny_models["wan21"].load()
        timeline = plan(loaded, shots=1)
        conds, noise = encode(loaded, timeline), noise_for(timeline)
        given = shown(loaded.model, conds, noise)
        model = with_memory(loaded.model, how, random_memory(loaded.model, how))
    weights = dict(loaded.model.model.diffusion_model.named_parameters())
    options = how.remembering(model, random_latents(noise).clone())
    lower_a_loss(model, how.parameters(model), options, free(given), steps=1)
    assert all(weights[name] is weight for name, weight in loaded.model.model.diffusion_model.named_parameters())
