"""hosts/memory/apm.py: on every family the anchor is mixed into the text of every layer, and negative prompts get the
null one."""

from itertools import pairwise

import pytest
import torch

import comfy.samplers

from longreel.engine.memory.files import APM_KIND, load_memory, save_memory
from longreel.hosts import keys
from longreel.hosts.attention import patching
from longreel.hosts.attention.feature import Start
from longreel.hosts.families import video_tokens, wan
from longreel.hosts.memory import apm
from longreel.hosts.memory.protocols import Remembers
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling import rollout
from longreel.hosts.windows.chunk_handler import ChunkHandler, Remembered
from tests.hosts.memory_cases import TEXT_TOKENS, chunks_of, drawn, lower_a_loss, random_latents, remembers, shown
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.ttt_cases import denoise, encode, noise_for, plan


def new_apm(model, layers: frozenset[int] | None = None, **more):
    return apm.with_apm(model, None, layers=layers, text_tokens=TEXT_TOKENS, **more)


def random_apm(model, layers: frozenset[int] | None = None, **settings):
    """A clone whose APM has every weight drawn."""
    return apm.with_apm(model, drawn(apm.trained(new_apm(model, layers))), **settings)


def in_use(model) -> torch.nn.Module:
    return model.model_options["transformer_options"][keys.APM].module


def case(tiny, name: str, batch: int = 1):
    loaded = tiny(name)
    timeline = plan(loaded, shots=1)
    return loaded, encode(loaded, timeline), noise_for(timeline, batch=batch)


def test_a_new_apm_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name, batch=2)
    model = remembers(new_apm(loaded.model), apm, random_latents(noise, frames=1))
    assert torch.equal(denoise(model, conds, noise), denoise(loaded.model, conds, noise))


def test_strength_scales_what_is_mixed_in_and_the_anchor_matters(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name)
    anchor = random_latents(noise, frames=1)
    plain = denoise(loaded.model, conds, noise)
    none, some, full = (
        denoise(remembers(random_apm(loaded.model, strength=strength), apm, anchor), conds, noise)
        for strength in (0.0, 0.02, 1.0)
    )
    assert torch.equal(none, plain)
    assert 0 < (some - plain).norm() < (full - plain).norm()
    other = denoise(remembers(random_apm(loaded.model), apm, 2 * anchor), conds, noise)
    assert not torch.allclose(other, full, atol=1e-4)


def test_no_anchor_is_as_without_apm(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    assert torch.equal(denoise(random_apm(loaded.model), conds, noise), denoise(loaded.model, conds, noise))


def test_each_layer_reads_what_its_mixer_makes_of_its_text(tiny, every_tiny):
    """Hooks on the network's own modules that mix by hand give the same video."""
    loaded, conds, noise = case(tiny, every_tiny.name)
    model, anchor = random_apm(loaded.model), random_latents(noise, frames=1)
    expected = denoise(remembers(model, apm, anchor), conds, noise)
    network, module, hooks = loaded.model.model.diffusion_model, in_use(model), []
    with torch.no_grad():
        picture = module.picture(anchor).repeat(2, 1, 1)

    def mixed(number, text):
        with torch.no_grad():
            return module.mixers[str(number)](text, picture)

    def by_hand(number, module, args, kwargs):
        args, kwargs = list(args), dict(kwargs)
        if every_tiny.family in ("wan", "ltxv", "kandinsky"):
            if "context" in kwargs:
                kwargs["context"] = mixed(number, kwargs["context"])
            else:
                args[1] = mixed(number, args[1])
        elif every_tiny.family == "cogvideox":
            kwargs["encoder_hidden_states"] = mixed(number, kwargs["encoder_hidden_states"])
        elif "txt" in kwargs:
            kwargs["txt"] = mixed(number, kwargs["txt"])
        else:
            words = kwargs["transformer_options"]["img_slice"][0]
            args[0] = torch.cat([mixed(number, args[0][:, :words]), args[0][:, words:]], dim=1)
        return tuple(args), kwargs

    attribute = {"wan": "cross_attn", "ltxv": "attn2"}.get(every_tiny.family)
    for number, block in enumerate(video_tokens.plain_family(model).blocks(network)):
        place = getattr(block, attribute) if attribute else block
        hooks.append(
            place.register_forward_pre_hook(lambda *given, number=number: by_hand(number, *given), with_kwargs=True)
        )
    try:
        out = denoise(loaded.model, conds, noise)
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(denoise(loaded.model, conds, noise), expected, atol=1e-3)


def test_only_the_chosen_layers_mix_and_all_by_default(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    assert in_use(new_apm(loaded.model)).layers == (0, 1, 2, 3)
    anchor = random_latents(noise, frames=1)
    outs = [
        denoise(remembers(random_apm(loaded.model, layers), apm, anchor), conds, noise)
        for layers in (frozenset({0}), frozenset({3}), frozenset({0, 3}))
    ]
    assert all(not torch.allclose(one, other) for number, one in enumerate(outs) for other in outs[:number])


def test_each_video_of_a_batch_has_its_own_anchor(tiny):
    loaded, conds, noise = case(tiny, "ltxv", batch=2)
    anchor, model = random_latents(noise, frames=1), random_apm(loaded.model)
    both = denoise(remembers(model, apm, anchor), conds, noise)
    for row in range(2):
        alone = denoise(remembers(model, apm, anchor[row : row + 1]), conds, noise[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_the_tokens_of_a_picture_in_front_of_the_text_are_left_alone(tiny):
    """Wan image-to-video gives its cross attention the picture's tokens, then the text."""
    block = tiny("wan21").model.model.diffusion_model.blocks[0]
    attention = type(
        "WanI2VCrossAttention",
        (torch.nn.Module,),
        {"forward": lambda self, x, context, context_img_len, transformer_options={}: context},
    )()
    attention.k_img = None
    place = wan.text_place
    holder = type("Block", (), {"cross_attn": attention})()
    context = torch.randn(1, 9, 4)
    args, _ = place(holder).change((None, context), {"context_img_len": 5}, lambda text: text + 1)
    assert torch.equal(args[1][:, :5], context[:, :5]) and torch.equal(args[1][:, 5:], context[:, 5:] + 1)
    args, _ = place(block).change((None, context), {"context_img_len": 5}, lambda text: text + 1)
    assert torch.equal(args[1], context + 1)  # a text-to-video network has none


def test_a_longer_text_than_apm_was_made_for_is_refused(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    model = apm.with_apm(loaded.model, None, text_tokens=15)
    with pytest.raises(ValueError, match="this text has 16 tokens and APM was made for 15"):
        denoise(remembers(model, apm, random_latents(noise, frames=1)), conds, noise)


def test_a_new_apm_takes_its_familys_usual_length_of_text(tiny, every_tiny):
    model = apm.with_apm(tiny(every_tiny.name).model, None, layers=frozenset({0}))
    usual = {"wan": 512, "cogvideox": 226, "ltxv": 128}.get(every_tiny.family, 256)
    assert apm.trained(model).config.text_tokens == usual


def test_a_file_gives_the_same_as_what_was_saved(tiny, tmp_path):
    loaded, conds, noise = case(tiny, "wan21")
    model, anchor = random_apm(loaded.model), random_latents(noise, frames=1)
    save_memory(tmp_path / "apm.safetensors", apm.trained(model))
    again = apm.with_apm(loaded.model, load_memory(tmp_path / "apm.safetensors", APM_KIND))
    assert torch.equal(
        denoise(remembers(again, apm, anchor), conds, noise), denoise(remembers(model, apm, anchor), conds, noise)
    )


def test_gradients_reach_every_weight_and_a_loss_falls(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name)
    given, model = shown(loaded.model, conds, noise), new_apm(loaded.model)
    parameters = apm.parameters(model)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    losses = lower_a_loss(model, parameters, apm.remembering(model, random_latents(noise, frames=1)), given, steps=4)
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert not [name for name, value in parameters.items() if torch.equal(value, before[name])]


@pytest.mark.parametrize("name", ["wan21", "wan22_5b", "cogvideox15", "hunyuan_video", "ltxv"])
def test_in_a_rollout_the_second_chunk_remembers_the_first(tiny, name):
    loaded = tiny(name)
    memory = drawn(apm.trained(new_apm(loaded.model)), scale=0.5)
    plain, new, changed = (
        chunks_of(loaded, model)
        for model in (
            loaded.model,
            apm.attach(loaded.model, None, text_tokens=TEXT_TOKENS),
            apm.attach(loaded.model, memory),
        )
    )
    assert torch.equal(new, plain)
    assert torch.equal(changed[:, :, :4], plain[:, :, :4])
    assert torch.isfinite(changed).all() and not torch.allclose(changed[:, :, 4:], plain[:, :, 4:], atol=1e-4)


@pytest.mark.parametrize("tagged", [True, False])
def test_the_prompt_that_guidance_subtracts_gets_the_null_anchor(tiny, tagged):
    loaded, seen = tiny("wan21"), []
    model = apm.attach(loaded.model, drawn(apm.trained(new_apm(loaded.model))))
    timeline = plan(loaded, shots=1, frames=6, segment=4, overlap=2)
    conds = encode(loaded, timeline)
    if not tagged:  # as core's own text encoding leaves them
        conds = tuple(
            [
                [text, {key: value for key, value in said.items() if not key.startswith("longreel")}]
                for text, said in one
            ]
            for one in conds
        )
    module = in_use(model)
    anchors = module.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    mixed = []
    pictures = module.mixers["0"].register_forward_pre_hook(lambda module, args: mixed.append(args[1].clone()))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 1)
    try:
        with torch.inference_mode():
            out, _ = rollout.sample_rollout(
                model, timeline, {"samples": torch.zeros_like(noise_for(timeline))}, sampling_of(conds, sigmas)
            )
            first = loaded.model.model.process_latent_in(out["samples"][:, :, :1])
            expected = {null: module.picture(torch.zeros_like(first) if null else first) for null in (False, True)}
    finally:
        anchors.remove()
        pictures.remove()
    torch.testing.assert_close(seen[0], first)
    assert not seen[1].any()
    rows = mixed[0]  # core puts the negative prompt first
    torch.testing.assert_close(rows[:1], expected[True], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[1:], expected[False], atol=1e-5, rtol=1e-5)


def test_the_anchor_is_the_first_frame_of_the_video_or_of_the_take(tiny):
    loaded = tiny("wan21")
    video, take = (torch.full((1, 16, 3, 8, 8), value) for value in (1.0, 2.0))
    for anchor, finished in ((apm.OF_VIDEO, video), (apm.OF_TAKE, take)):
        model = apm.attach(loaded.model, None, anchor, text_tokens=TEXT_TOKENS)
        (feature,) = patching.features_of(model.model_options)
        timeline = plan(loaded, shots=1)
        remembered = Remembered(finished=take[:, :, :0], made_by=(), take_start=0, take_anchor=take, video_anchor=video)
        handler = ChunkHandler(timeline, None, remembered)
        run = feature.start(Start(loaded.model.model, None, handler, {}, torch.ones(2)))
        assert torch.equal(run.latents, loaded.model.model.process_latent_in(finished[:, :, :1]))
        assert isinstance(feature, Remembers) and feature.reads_anchor() and not feature.frames_before(timeline)


def test_an_unknown_anchor_and_settings_of_a_trained_apm_are_refused(tiny):
    model = tiny("wan21").model
    memory = apm.trained(new_apm(model))
    with pytest.raises(ValueError, match="unknown anchor 'shot'; use video or take"):
        apm.attach(model, memory, "shot")
    for settings in ({"layers": frozenset({0})}, {"text_tokens": 8}):
        with pytest.raises(ValueError, match="trained for 4 blocks and 64 tokens of text; leave both to it"):
            apm.with_apm(model, memory, **settings)
    with pytest.raises(ValueError, match="0 tokens of text are below 1; use 512"):
        apm.with_apm(model, None, text_tokens=0)


def test_ordinary_sampling_is_refused(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    with pytest.raises(
        ValueError, match=r"Longreel Long Memory \(trained\) remembers finished chunks, and this sampler makes none"
    ):
        denoise(apm.attach(loaded.model, None, text_tokens=TEXT_TOKENS), conds, noise)


def test_the_prompt_that_guidance_subtracts_is_told_by_its_role_else_by_its_place():
    conds = [[{keys.ROLE: conditioning.NEGATIVE}], [{keys.ROLE: conditioning.POSITIVE}], [{}]]
    assert [apm._is_negative(conds, prompt) for prompt in range(3)] == [True, False, False]
    assert apm._is_negative([[{}], [{}]], 1)
