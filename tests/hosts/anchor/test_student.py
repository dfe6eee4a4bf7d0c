"""hosts/anchor/student.py: the student is core's network as an anchor has it evaluated, with gradients, on every
family."""

import pytest
import torch

from longreel.engine.lora.low_rank import attach, layers_of, parameters_of
from longreel.hosts.anchor.student import AnchorStudent, build
from longreel.hosts.training.encoder import TTTEncoder

TRAINED = ["wan21", "wan22_14b_high", "cogvideox10", "cogvideox15", "hunyuan_video"]
TARGETS = {"wan": "blocks.*", "cog": "blocks.*", "hun": "*blocks.*"}
FRAMES, SIDE = 4, 4


@pytest.fixture(params=TRAINED)
def student(request, tiny):
    """(loaded, student, inputs of predict): the first token's frames of row 0 are an anchor, the last of row 1."""
    loaded = tiny(request.param)
    made = AnchorStudent(loaded.model, torch.float32)
    encoder = TTTEncoder(loaded.model, loaded.clip, loaded.vae)
    text = {name: torch.stack([value, value])[:, None] for name, value in encoder.encode_text("a red circle").items()}
    torch.manual_seed(5)
    noised = torch.randn(2, made.facts.latent_channels, FRAMES, SIDE, SIDE)
    is_anchor = torch.zeros(2, FRAMES)
    is_anchor[0, : made.facts.patch_frames], is_anchor[1, -made.facts.patch_frames :] = 1.0, 1.0
    return loaded, made, (noised, torch.tensor([0.3, 0.8]) * made.top_level, text, is_anchor)


def test_times_of_frames_change_what_is_said_and_rows_do_not_mix(student):
    _, made, (noised, levels, text, is_anchor) = student
    with torch.no_grad():
        said, other = (
            made.predict(noised, levels, text, is_anchor),
            made.predict(noised, levels, text, is_anchor.flip(1)),
        )
        alone = made.predict(noised[1:], levels[1:], {name: part[1:] for name, part in text.items()}, is_anchor[1:])
    assert said.shape == noised.shape and said.isfinite().all()
    assert not torch.allclose(said, other, atol=1e-4)
    assert torch.allclose(said[1:], alone, atol=1e-4)


def test_adapters_get_gradients_and_nothing_else_does(student):
    _, made, given = student
    targets = TARGETS[made.facts.family.lower()[:3]]
    adapters = attach(layers_of(made.network, [targets]), 2, 2.0)
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.up.normal_(std=0.1)
    made.predict(*given).square().mean().backward()
    gradients = [value.grad for value in parameters_of(adapters).values()]
    assert sum(one is not None and bool(one.any()) for one in gradients) > 0.7 * len(gradients)
    assert all(value.grad is None for value in made.network.parameters() if not value.requires_grad)


def test_what_is_computed_again_has_the_same_gradients(tiny, monkeypatch):
    from longreel.hosts.anchor import student as anchor_training

    def gradients() -> dict[str, torch.Tensor]:
        made = AnchorStudent(tiny("wan21").model, torch.float32)
        encoded = TTTEncoder(*tiny("wan21")).encode_text("a star")
        adapters = attach(layers_of(made.network, ["blocks.*"]), 2, 2.0)
        torch.manual_seed(2)
        with torch.no_grad():
            for adapter in adapters.values():
                adapter.up.normal_(std=0.1)
        made.predict(
            torch.randn(1, 16, FRAMES, SIDE, SIDE),
            torch.tensor([0.5]),
            {name: value[None, None] for name, value in encoded.items()},
            torch.tensor([[1.0, 0, 0, 0]]),
        ).square().mean().backward()
        return {name: value.grad for name, value in parameters_of(adapters).items()}

    again = gradients()
    monkeypatch.setattr(anchor_training, "recomputed", lambda evaluate, overwrites: evaluate)
    kept = gradients()
    assert all(torch.allclose(again[name], kept[name], atol=1e-6) for name in kept)


def test_the_model_itself_stays_as_it_was(tiny):
    model = tiny("wan21").model
    before = {name: value.clone() for name, value in model.model.diffusion_model.state_dict().items()}
    made = AnchorStudent(model, torch.float32)
    attach(layers_of(made.network, ["blocks.*"]), 2, 2.0)
    assert made.network is not model.model.diffusion_model
    assert all(torch.equal(value, before[name]) for name, value in model.model.diffusion_model.state_dict().items())
    assert not any(module._forward_hooks for module in model.model.diffusion_model.modules())


@pytest.mark.parametrize("name", ["wan22_5b", "ltxv"])
def test_a_family_that_knows_frame_times_is_refused(tiny, name):
    with pytest.raises(ValueError, match="was trained with a time for every frame and needs no anchor LoRA"):
        AnchorStudent(tiny(name).model)


def test_the_twin_and_the_host_say_the_same_of_the_demo_model(monkeypatch):
    from longreel.demo import dit_net
    from longreel.demo.anchor_student import TwinStudent

    monkeypatch.setattr(dit_net, "HALF_PRECISION", False)
    host, encoder = build({"demo": True, "dtype": "float32"})
    text = encoder.encode_text("a red circle on the left moves up")
    conditioning = {name: value[None, None] for name, value in text.items()}
    torch.manual_seed(1)
    noised, is_anchor = torch.randn(1, 16, 5, 8, 8), torch.tensor([[0.0, 1, 0, 0, 0]])
    with torch.no_grad():
        given = (noised, torch.tensor([0.7]), conditioning, is_anchor)
        assert torch.allclose(host.predict(*given), TwinStudent().predict(*given), atol=2e-3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "4 of the 4 files of a model are missing"),
        ({"demo": 1}, "model.demo is 1"),
        ({"vea": "x"}, "model.vea is 'x'"),
        ({"demo": True, "dtype": "int8"}, "model.dtype 'int8' is not known; use bfloat16 or float32"),
    ],
)
def test_settings_of_the_builder_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        build(settings)
