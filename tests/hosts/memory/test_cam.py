"""hosts/memory/cam.py: on every family CAM reads the window's first frames and the frames before, and nothing else
changes."""

import pytest
import torch

import comfy.model_management

from longreel.engine.memory.files import CAM_KIND, load_memory, save_memory
from longreel.hosts import keys
from longreel.hosts.attention import patching
from longreel.hosts.families import video_tokens
from longreel.hosts.memory import cam, short_memory
from longreel.hosts.memory.protocols import Remembers
from longreel.hosts.ttt import apply as ttt
from tests.hosts.attention_watcher import Watcher
from tests.hosts.memory_cases import FRAMES, chunks_of, drawn, lower_a_loss, random_latents, remembers, shown
from tests.hosts.ttt_cases import denoise, encode, noise_for, plan


def random_cam(model, scale: float = 1.0, **settings):
    """A clone whose CAM has every weight drawn."""
    new = cam.with_cam(model, None, layers=settings.pop("layers", None))
    return cam.with_cam(model, drawn(cam.trained(new), scale=scale), **settings)


def in_use(model) -> torch.nn.Module:
    return model.model_options["transformer_options"][keys.CAM].module


def case(tiny, name: str, batch: int = 1):
    loaded = tiny(name)
    timeline = plan(loaded, shots=1)
    return loaded, encode(loaded, timeline), noise_for(timeline, batch=batch)


def test_a_new_cam_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name, batch=2)
    model = remembers(cam.with_cam(loaded.model, None), cam, random_latents(noise))
    assert torch.equal(denoise(model, conds, noise), denoise(loaded.model, conds, noise))


def test_strength_scales_what_is_added_and_the_frames_matter(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name)
    frames = random_latents(noise)
    plain = denoise(loaded.model, conds, noise)
    none, some, full = (
        denoise(remembers(random_cam(loaded.model, strength=strength), cam, frames), conds, noise)
        for strength in (0.0, 0.02, 1.0)
    )
    assert torch.equal(none, plain)
    assert 0 < (some - plain).norm() < (full - plain).norm()
    other = denoise(remembers(random_cam(loaded.model), cam, random_latents(noise, seed=6)), conds, noise)
    assert not torch.allclose(other, full, atol=1e-3)


def test_nothing_before_is_as_without_cam(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    assert torch.equal(denoise(random_cam(loaded.model), conds, noise), denoise(loaded.model, conds, noise))


def test_features_are_what_the_network_makes_of_the_windows_first_frames(tiny, every_tiny):
    """With a neutral encoder: hooks on plain sampling of those frames alone see the same tokens."""
    loaded, conds, noise = case(tiny, every_tiny.name)
    model, seen, read = random_cam(loaded.model), {}, {}
    in_use(model).encoder.start()
    family, network = video_tokens.plain_family(model), loaded.model.model.diffusion_model
    hooks = [
        injector.register_forward_pre_hook(lambda module, args, number=number: read.update({number: args[1]}))
        for number, injector in in_use(model).injectors.items()
    ]
    denoise(remembers(model, cam, random_latents(noise)), conds, noise)

    def keep(block, args, kwargs, output, number):
        def note(video):
            seen[number] = video.clone()
            return video

        video_tokens.change_video(family, block, args, kwargs, output, note)

    for number in in_use(model).layers:
        block = family.blocks(network)[number]
        hooks.append(
            block.register_forward_hook(lambda *given, number=str(number): keep(*given, number), with_kwargs=True)
        )
    try:
        denoise(loaded.model, conds, noise[:, :, :FRAMES])
    finally:
        for hook in hooks:
            hook.remove()
    assert set(read) == set(seen) == {str(number) for number in in_use(model).layers}
    for number, tokens in seen.items():
        torch.testing.assert_close(read[number].flatten(1, 2), tokens, atol=1e-5, rtol=1e-5)


def test_the_encoder_reads_each_conditioning_frame_where_it_stands(tiny, every_tiny):
    """What it adds to the first tokens is its own output for the frames, place by place."""
    loaded, conds, noise = case(tiny, every_tiny.name)
    model, frames = random_cam(loaded.model), random_latents(noise)
    family, network = video_tokens.plain_family(model), loaded.model.model.diffusion_model
    entered = []
    before = family.blocks(network)[0].register_forward_pre_hook(
        lambda module, args, kwargs: entered.append(
            (args[0] if args else kwargs.get("img", kwargs.get("hidden_states"))).clone()
        ),
        with_kwargs=True,
    )
    try:
        denoise(remembers(model, cam, frames), conds, noise)
        added = entered[0].clone()
        entered.clear()
        in_use(model).encoder.start()
        denoise(remembers(model, cam, frames), conds, noise)
    finally:
        before.remove()
    added -= entered[0]
    patch = family.patch_size(network)[0]
    encoder = in_use(random_cam(loaded.model)).encoder
    token_frames = [frames[:, :, start : start + patch].flatten(1, 2) for start in range(0, FRAMES, patch)]
    with torch.no_grad():
        expected = torch.cat([encoder(one).flatten(2).transpose(1, 2) for one in token_frames], dim=1)
    torch.testing.assert_close(added[:1], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(added[1:], expected, atol=1e-4, rtol=1e-4)  # the same for both prompts


def test_each_video_of_a_batch_reads_its_own_frames(tiny):
    loaded, conds, noise = case(tiny, "wan21", batch=2)
    frames, model = random_latents(noise), random_cam(loaded.model)
    both = denoise(remembers(model, cam, frames), conds, noise)
    for row in range(2):
        alone = denoise(remembers(model, cam, frames[row : row + 1]), conds, noise[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_only_the_chosen_blocks_are_injected_and_the_later_half_by_default(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    assert in_use(cam.with_cam(loaded.model, None)).layers == (2, 3)
    frames = random_latents(noise)
    outs = [
        denoise(remembers(random_cam(loaded.model, layers=layers), cam, frames), conds, noise)
        for layers in (frozenset({0}), frozenset({3}), frozenset({0, 3}))
    ]
    assert all(not torch.allclose(one, other) for number, one in enumerate(outs) for other in outs[:number])


def test_a_file_gives_the_same_as_what_was_saved(tiny, tmp_path):
    loaded, conds, noise = case(tiny, "wan21")
    model, frames = random_cam(loaded.model), random_latents(noise)
    save_memory(tmp_path / "cam.safetensors", cam.trained(model, "mine"))
    memory = load_memory(tmp_path / "cam.safetensors", CAM_KIND)
    assert memory.title == "mine"
    again = cam.with_cam(loaded.model, memory)
    assert torch.equal(
        denoise(remembers(again, cam, frames), conds, noise), denoise(remembers(model, cam, frames), conds, noise)
    )


def test_gradients_reach_every_weight_and_a_loss_falls(tiny, every_tiny):
    loaded, conds, noise = case(tiny, every_tiny.name)
    given, model = shown(loaded.model, conds, noise), cam.with_cam(loaded.model, None)
    parameters = cam.parameters(model)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    losses = lower_a_loss(model, parameters, cam.remembering(model, random_latents(noise)), given, steps=5)
    assert losses[-1] < 0.97 * losses[0]
    assert not [name for name, value in parameters.items() if torch.equal(value, before[name])]
    assert not any(value.requires_grad for value in loaded.model.model.parameters() if value.grad is not None)
    assert comfy.model_management.in_training is False


@pytest.mark.parametrize("name", ["wan21", "wan22_5b", "cogvideox15", "hunyuan_video", "ltxv"])
def test_in_a_rollout_the_second_chunk_remembers_the_first(tiny, name):
    loaded = tiny(name)
    plain, new, changed = (
        chunks_of(loaded, model)
        for model in (
            loaded.model,
            cam.attach(loaded.model, None),
            cam.attach(loaded.model, drawn(cam.trained(cam.with_cam(loaded.model, None)), scale=0.3)),
        )
    )
    assert torch.equal(new, plain)
    assert torch.equal(changed[:, :, :4], plain[:, :, :4])
    assert torch.isfinite(changed).all() and not torch.allclose(changed[:, :, 4:], plain[:, :, 4:], atol=1e-3)


def test_the_conditioning_frames_are_the_known_ones_as_the_network_sees_latents(tiny):
    loaded, read = tiny("wan21"), []
    model = cam.attach(loaded.model, drawn(cam.trained(cam.with_cam(loaded.model, None)), scale=0.3))
    hook = in_use(model).encoder.register_forward_pre_hook(lambda module, args: read.append(args[0].clone()))
    try:
        out = chunks_of(loaded, model)
    finally:
        hook.remove()
    known = loaded.model.model.process_latent_in(out[:, :, 2:4])  # chunks of 4 that share 2
    torch.testing.assert_close(read[0], known.transpose(1, 2).flatten(0, 1))


def test_a_feature_beside_cam_sees_the_window_alone(tiny, every_tiny):
    loaded, feature = tiny(every_tiny.name), Watcher()
    chunks_of(loaded, patching.attach(loaded.model, feature))
    alone = [(call.kind, call.block, call.q.shape) for call in feature.calls]
    for model in (
        cam.attach(patching.attach(loaded.model, feature), None),
        patching.attach(cam.attach(loaded.model, None), feature),
    ):
        feature.calls.clear()
        chunks_of(loaded, model)
        assert [(call.kind, call.block, call.q.shape) for call in feature.calls] == alone


def test_context_passes_of_another_memory_are_not_remembered_into(tiny):
    """Keys and values are read from finished frames that the network is shown apart from the window."""
    loaded, counts = tiny("wan21"), []
    beside = short_memory.KeysAndValues(2, 1.0, 0.0, frozenset(range(4)))
    for feature in (None, beside):
        model = cam.attach(loaded.model if feature is None else patching.attach(loaded.model, feature), None)
        calls = []
        hook = in_use(model).encoder.register_forward_pre_hook(lambda module, args, calls=calls: calls.append(args))
        try:
            out = chunks_of(loaded, model, frames=8)
        finally:
            hook.remove()
        counts.append(len(calls))
    assert counts == [4, 4]  # two steps of each chunk but the first
    assert torch.equal(out, chunks_of(loaded, patching.attach(loaded.model, beside), frames=8))
    assert not torch.equal(out, chunks_of(loaded, loaded.model, frames=8))


def test_chunks_that_take_over_nothing_are_refused(tiny):
    with pytest.raises(ValueError, match="chunk 2 has none; use an overlap of 1 latent frame or more in Longreel Plan"):
        chunks_of(tiny("wan21"), cam.attach(tiny("wan21").model, None), frames=8, overlap=0)


def test_other_trained_weights_are_another_feature(tiny):
    model = tiny("wan21").model
    memory = cam.trained(cam.with_cam(model, None))
    one, same, other = (
        patching.features_of(cam.attach(model, each).model_options)[0] for each in (memory, memory, drawn(memory))
    )
    assert one == same and one != other
    assert not isinstance(one, Remembers)  # it reads the window's own frames, which a chunk depends on anyway


def test_ordinary_sampling_is_refused(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    with pytest.raises(ValueError, match="remembers finished chunks, and this sampler makes none; use Longreel"):
        denoise(cam.attach(loaded.model, None), conds, noise)


def test_more_conditioning_frames_than_the_window_has_are_refused(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    with pytest.raises(ValueError, match="5 conditioning frames are more than the window's 4"):
        denoise(remembers(random_cam(loaded.model), cam, random_latents(noise, frames=5)), conds, noise)


def test_tokens_of_no_frame_are_refused(tiny):
    loaded, conds, noise = case(tiny, "hunyuan_video")
    with_reference = tuple([[text, {**said, "ref_latent": noise[:, :, :1]}] for text, said in one] for one in conds)
    model = remembers(random_cam(loaded.model), cam, random_latents(noise))
    with pytest.raises(ValueError, match="read 48 video tokens and the window has 32"):
        denoise(model, with_reference, noise, cfg=1.0)  # core's reference takes one prompt at a time


def test_blocks_that_another_node_skips_are_named(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    model = remembers(random_cam(loaded.model), cam, random_latents(noise))
    model.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 3)
    with pytest.raises(RuntimeError, match=r"1 of 2 blocks .* were not evaluated \(the first: block 3\)"):
        denoise(model, conds, noise)


def test_ttt_layers_beside_cam_are_refused(tiny):
    loaded, conds, noise = case(tiny, "wan21")
    model = remembers(ttt.apply(cam.with_cam(loaded.model, None), None), cam, random_latents(noise))
    with pytest.raises(
        ValueError, match="and TTT layers each evaluate the blocks in their own way; use one of the two"
    ):
        denoise(model, conds, noise)


def test_layers_of_a_trained_cam_are_its_own(tiny):
    model = tiny("wan21").model
    memory = cam.trained(cam.with_cam(model, None))
    with pytest.raises(ValueError, match="1 blocks are asked for and this CAM was trained for 2 of its own"):
        cam.with_cam(model, memory, layers=frozenset({0}))
    with pytest.raises(ValueError, match="block 4 is asked for and this model has 4"):
        cam.with_cam(model, None, layers=frozenset({4}))
    with pytest.raises(ValueError, match="no block is asked for; use some of this model's 4"):
        cam.with_cam(model, None, layers=frozenset())
