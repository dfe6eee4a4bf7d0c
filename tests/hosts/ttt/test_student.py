"""hosts/ttt/student.py on every family: right gradients, a loss that falls, and sampling of what was trained."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import comfy.model_management
import comfy.sd

from longreel.engine.sampling.denoising import FlowMatching, VPrediction, loss_per_video
from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import GATED_DELTA, LACT, LINEAR, MLP, SLIDING_WINDOW
from longreel.engine.ttt.order import Layout
from longreel.hosts import facts_of, family_of
from longreel.hosts.attention import patching
from longreel.hosts.training.encoder import TTTEncoder
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.student import ALL, LAYERS, OTHERS, PROJECTIONS, TTT, TTTStudent
from tests.hosts.attention_watcher import Watcher
from tests.hosts.ttt_cases import FPS, denoise, encode, layers, noise_for, plan

WINDOWS = ((0, 4), (2, 6))
PROMPTS = ["a fox", "two words"]


@pytest.fixture(params=["wan21", "cogvideox10", "cogvideox15", "hunyuan_video", "ltxv"])
def family(request) -> str:
    """One tiny model of each network."""
    return request.param


def student_of(loaded, file=None, dtype=torch.float32, **applied) -> TTTStudent:
    """As a node makes it: in inference mode."""
    with torch.inference_mode():
        return TTTStudent(ttt.apply(loaded.model, file, **applied), dtype)


def hear(loaded, prompts: list[str], text_tokens: int | None = None, fps: float = FPS) -> dict[str, torch.Tensor]:
    """Conditioning of one story: [1, n, ...], as training/stage_clips.py gives it."""
    encoder = TTTEncoder(loaded.model, loaded.clip, loaded.vae, text_tokens)
    texts = [encoder.encode_text(prompt) for prompt in prompts]
    heard = {name: torch.stack([text[name] for text in texts])[None] for name in texts[0]}
    told = facts_of(loaded.model).unsaid_frame_rate is not None
    return {**heard, **({"frame_rate": torch.full((1, len(prompts)), fps)} if told else {})}


class Case:
    """One story of 6 latent frames, its noise and level; `loss()` is of the student as it is."""

    def __init__(self, loaded, student: TTTStudent, level: float = 0.6, batch: int = 1):
        side = 64 // student.facts.spatial_stride
        generator = torch.Generator().manual_seed(0)
        shape = (batch, student.facts.latent_channels, 6, side, side)
        self.clean, self.noise = (torch.randn(shape, generator=generator) for _ in range(2))
        flow = isinstance(student.objective, FlowMatching)
        self.levels = torch.full((batch,), level if flow else float(int(level * 999)))
        self.student, self.conditioning = student, hear(loaded, PROMPTS)

    def predict(self) -> torch.Tensor:
        noised = self.student.objective.noise(self.clean, self.noise, self.levels)
        return self.student.predict(noised, self.levels, self.conditioning, WINDOWS)

    def loss(self) -> torch.Tensor:
        return loss_per_video(self.predict(), self.student.objective.target(self.clean, self.noise, self.levels)).mean()


def test_gradients_reach_every_parameter_of_new_layers(tiny, every_tiny):
    """But the gates of the last block's texts, which the network throws away."""
    loaded = tiny(every_tiny.name)
    student = student_of(loaded)
    parameters = student.parameters_of(LAYERS)
    assert not parameters[OTHERS]
    Case(loaded, student).loss().backward()
    unheard = {f"blocks.{max(student.layers)}.backward_text"}
    for name, parameter in parameters[TTT].items():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0 or name in unheard, name


@pytest.mark.parametrize("adapter", [LAYERS, ALL])
def test_gradients_are_those_of_the_loss(tiny, family, adapter):
    """Along one direction through all that is trained, against the loss itself a little before and behind."""
    loaded = tiny(family)
    student = student_of(loaded, layers(loaded.model, gate=0.5))
    student.checkpoint(1, family == "wan21")
    case, groups = Case(loaded, student), student.parameters_of(adapter)
    trained = [parameter for group in groups.values() for parameter in group.values()]
    case.loss().backward()
    torch.manual_seed(1)
    directions = [torch.randn_like(parameter) * parameter.detach().std().nan_to_num(1.0) for parameter in trained]
    slope = sum(
        (parameter.grad * direction).sum().item()
        for parameter, direction in zip(trained, directions, strict=False)
        if parameter.grad is not None
    )

    def at(distance: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(trained, directions, strict=False):
                parameter.add_(direction, alpha=distance)
            loss = case.loss().item()
            for parameter, direction in zip(trained, directions, strict=False):
                parameter.sub_(direction, alpha=distance)
        return loss

    step = 2e-4
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(slope, rel=0.02, abs=0.02)


@pytest.mark.parametrize("family", ["wan21", "cogvideox10"], indirect=True)
def test_blocks_that_are_computed_again_give_the_same_gradients_and_keep_less(tiny, family):
    loaded = tiny(family)
    student = student_of(loaded, layers(loaded.model))
    parameters, case = student.parameters_of(PROJECTIONS), Case(loaded, student)
    found = []
    for blocks in (False, True):
        student.checkpoint(0, blocks)
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = case.loss()
        loss.backward()
        found.append(
            (
                sum(kept),
                [
                    parameter.grad.clone()
                    for group in parameters.values()
                    for parameter in group.values()
                    if parameter.grad is not None
                ],
            )
        )
        for group in parameters.values():
            for parameter in group.values():
                parameter.grad = None
    (all_kept, plain), (few_kept, again) = found
    assert few_kept < 0.2 * all_kept
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_trained_is_what_is_sampled(tiny, every_tiny):
    """One step from pure noise: the clean video of the sampler is that of the student's prediction."""
    loaded = tiny(every_tiny.name)
    file, timeline = layers(loaded.model), plan(loaded, shots=2, prompts=PROMPTS)
    noise = noise_for(timeline)
    model = ttt.attach_timeline(ttt.apply(loaded.model, file), timeline)
    conds = encode(loaded, timeline)
    sampled = loaded.model.model.process_latent_in(denoise(model, conds, noise, cfg=1.0))
    student = student_of(loaded, file)
    windows = tuple((segment.start_frame, segment.end_frame) for segment in timeline.segments)
    level = torch.tensor([1.0 if isinstance(student.objective, FlowMatching) else 999.0])
    with torch.no_grad():
        said = student.predict(noise, level, hear(loaded, PROMPTS), windows)
    expected = noise - said if isinstance(student.objective, FlowMatching) else -said
    torch.testing.assert_close(sampled, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["wan21", "cogvideox15", "hunyuan_video", "ltxv"])
def test_segments_are_trained_with_the_lead_that_they_are_sampled_with(tiny, name):
    loaded = tiny(name)
    file, timeline = layers(loaded.model), plan(loaded, shots=2, prompts=PROMPTS, transition="continue", overlap=0)
    noise, student = noise_for(timeline), student_of(loaded, file)
    assert student.lead_frames == 0
    student.lead_frames = 1
    model = ttt.attach_timeline(ttt.apply(loaded.model, file), timeline, lead_frames=1)
    conds = encode(loaded, timeline)
    sampled = loaded.model.model.process_latent_in(denoise(model, conds, noise, cfg=1.0))
    windows = tuple((segment.start_frame, segment.end_frame) for segment in timeline.segments)
    level = torch.tensor([1.0 if isinstance(student.objective, FlowMatching) else 999.0])
    with torch.no_grad():
        said = student.predict(noise, level, hear(loaded, PROMPTS), windows)
    expected = noise - said if isinstance(student.objective, FlowMatching) else -said
    torch.testing.assert_close(sampled, expected, atol=2e-3, rtol=1e-3)
    assert student.loaded(4, "").lead_frames == 1


def test_a_run_with_leads_is_another_run(tiny):
    loaded = tiny("wan21")
    model = ttt.apply(loaded.model, None)
    with torch.inference_mode():
        plain, led = (TTTStudent(model, torch.float32, lead_frames=lead) for lead in (0, 1))
    assert led.identity == f"{plain.identity} lead 1"


def test_a_few_steps_lower_the_loss_and_change_what_is_sampled_and_nothing_else(tiny, every_tiny, tmp_path):
    train_and_sample(tiny(every_tiny.name), MLP, tmp_path)


@pytest.mark.parametrize("kind", [LINEAR, GATED_DELTA, SLIDING_WINDOW, LACT])
def test_every_kind_of_layer_learns_and_is_sampled_with(tiny, kind, tmp_path):
    train_and_sample(tiny("wan21"), kind, tmp_path)


def train_and_sample(loaded, kind: str, folder) -> None:
    timeline = plan(loaded, shots=2, prompts=PROMPTS)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    neutral = ttt.apply(loaded.model, None, kind=kind)
    plain = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise)
    with torch.inference_mode():
        student = TTTStudent(neutral, torch.float32)
    case, parameters = Case(loaded, student), student.parameters_of(LAYERS)[TTT]
    optimiser = torch.optim.Adam(parameters.values(), lr=3e-3)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = case.loss()
        loss.backward()
        assert all(value.grad.isfinite().all() for value in parameters.values() if value.grad is not None)
        optimiser.step()
        losses.append(loss.item())
    assert losses[3] < losses[2] < losses[1] < losses[0]
    student.save(folder / "layers.safetensors", 4, "four steps")
    assert [path.name for path in folder.iterdir()] == ["layers.safetensors"]
    file = load_ttt(folder / "layers.safetensors")
    assert (file.title, file.segment_latent_frames, file.family) == ("four steps", 4, student.facts.family)
    assert file.config.kind == kind
    trained = denoise(ttt.attach_timeline(ttt.apply(loaded.model, file), timeline), conds, noise)
    assert trained.isfinite().all() and not torch.allclose(trained, plain)
    for model in (loaded.model, neutral):
        assert torch.equal(denoise(ttt.attach_timeline(model, timeline), conds, noise), plain)


def test_an_adapter_trains_what_it_names_in_float32(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    student = student_of(loaded, blocks=frozenset({1}))
    network = student.network
    none, attention, everything = (student.parameters_of(adapter)[OTHERS] for adapter in (LAYERS, PROJECTIONS, ALL))
    assert not none and set(everything) == {name for name, _ in network.named_parameters()}
    part = {"wan": "self_attn", "ltxv": "attn1", "hunyuan_video": "attn."}.get(every_tiny.family, "blocks.1.")
    assert attention and all(".1." in name and (part in name or "_attn." in name) for name in attention)
    assert all(value.dtype == torch.float32 and value.requires_grad for value in everything.values())
    student.parameters_of(PROJECTIONS)
    assert {name for name, value in network.named_parameters() if value.requires_grad} == set(attention)
    with pytest.raises(ValueError, match="unknown adapter 'lora'; use 'ttt', 'qkvo' or 'sft'"):
        student.parameters_of("lora")


def test_other_weights_that_were_trained_are_loaded_as_a_lora(tiny, every_tiny, tmp_path):
    """By core's own loader, where they stand in the place of the model's."""
    loaded = tiny(every_tiny.name)
    student = student_of(loaded)
    attention = student.parameters_of(PROJECTIONS)[OTHERS]
    with torch.no_grad():
        for value in attention.values():
            value.add_(1.0)
    student.save_others(tmp_path / "others.safetensors", attention, "one more")
    patched, _ = comfy.sd.load_lora_for_models(loaded.model, None, load_file(tmp_path / "others.safetensors"), 1.0, 0.0)
    assert set(patched.patches) == {f"diffusion_model.{name}" for name in attention}
    for name, value in attention.items():
        in_place = patched.patch_weight_to_device(f"diffusion_model.{name}", return_weight=True)
        torch.testing.assert_close(in_place.float(), value.detach(), rtol=1e-2, atol=1e-2)


def test_text_gates_are_trained_where_text_is_read(tiny, every_tiny):
    names = student_of(tiny(every_tiny.name)).parameters_of(LAYERS)[TTT]
    assert ("blocks.0.forward_text" in names) == (every_tiny.family in ("cogvideox", "hunyuan_video"))


def test_bfloat16_is_computed_and_float32_is_kept(tiny, family):
    loaded = tiny(family)
    student = student_of(loaded, dtype=torch.bfloat16)
    parameters, exact = student.parameters_of(LAYERS)[TTT], student_of(loaded)
    loss = Case(loaded, student).loss()
    loss.backward()
    expected = Case(loaded, exact).loss().item()
    assert loss.item() != expected and loss.item() == pytest.approx(expected, 0.05)
    for parameter in parameters.values():
        assert parameter.dtype == parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


def test_rows_whose_texts_differ_in_length_are_those_of_separate_batches(tiny, family):
    loaded = tiny(family)
    student = student_of(loaded, layers(loaded.model))
    long = " ".join(f"word{number}" for number in range(30))
    rows = [hear(loaded, [first, "b"], text_tokens=40) for first in ("a", long)]
    together = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    assert together["text_tokens"][0].tolist() != together["text_tokens"][1].tolist()
    case = Case(loaded, student, batch=2)
    with torch.no_grad():
        case.conditioning = together
        both = case.predict()
        for row in range(2):
            alone = student.predict(
                student.objective.noise(case.clean, case.noise, case.levels)[row : row + 1],
                case.levels[row : row + 1],
                rows[row],
                WINDOWS,
            )
            torch.testing.assert_close(both[row : row + 1], alone)


def test_rows_of_other_frame_rates_are_those_of_separate_batches_and_none_is_the_unsaid_one(tiny):
    loaded = tiny("ltxv")
    student = student_of(loaded, layers(loaded.model))
    case = Case(loaded, student, batch=2)
    rows = [hear(loaded, PROMPTS, fps=fps) for fps in (8.0, 25.0)]
    noised = student.objective.noise(case.clean, case.noise, case.levels)
    with torch.no_grad():
        case.conditioning = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        slow, usual = (part[None] for part in case.predict())

        def alone(row: int, heard) -> torch.Tensor:
            return student.predict(noised[row : row + 1], case.levels[row : row + 1], heard, WINDOWS)

        torch.testing.assert_close(slow, alone(0, rows[0]))
        assert not torch.allclose(slow, alone(0, rows[1]), atol=1e-3)
        unsaid = {name: part for name, part in rows[1].items() if name != "frame_rate"}
        assert torch.equal(alone(1, rows[1]), alone(1, unsaid))
        torch.testing.assert_close(usual, alone(1, unsaid))


def test_the_layout_is_what_the_layers_read(tiny, family, monkeypatch):
    loaded, read = tiny(family), []
    student = student_of(loaded)
    case = Case(loaded, student)
    for layer in student.layers.values():
        forward = layer.forward
        monkeypatch.setattr(
            layer,
            "forward",
            lambda x, layout, *args, forward=forward, **kwargs: (
                read.append(layout),
                forward(x, layout, *args, **kwargs),
            )[1],
        )
    with torch.no_grad():
        case.loss()
    layout = student.layout(tuple(case.clean.shape[1:]), case.conditioning, WINDOWS)
    assert isinstance(layout, Layout) and set(read) == {layout}


def test_gates_open_to_where_training_starts_unless_they_were_trained(tiny):
    loaded = tiny("wan21")
    opened, kept = student_of(loaded), student_of(loaded, layers(loaded.model, gate=0.5))
    assert (opened.layers[0].forward_video == 0.1).all()
    file = layers(loaded.model, gate=0.5).layers[0]["forward_video"]
    assert torch.equal(kept.layers[0].forward_video.detach(), file.float())


def test_objectives_are_those_of_the_family(tiny, every_tiny):
    student = student_of(tiny(every_tiny.name))
    sampling = tiny(every_tiny.name).model.get_model_object("model_sampling")
    if every_tiny.family == "cogvideox":
        assert isinstance(student.objective, VPrediction) and len(student.objective.alphas) == 1000
        return
    levels = student.objective.noise(torch.zeros(3), torch.ones(3), torch.tensor([0.2, 0.5, 0.9]))
    torch.testing.assert_close(levels, torch.tensor([0.2, 0.5, 0.9]))
    # A level in the middle of those that are drawn is where the model's own schedule has its middle.
    shift = student.objective.shift
    middle = float(sampling.sigma(torch.tensor(500.0 if every_tiny.family != "ltxv" else 0.5)))
    assert shift / (1 + shift) == pytest.approx(middle, rel=1e-4)


def test_a_student_is_told_by_what_it_starts_from(tiny):
    loaded = tiny("wan21")
    same = [student_of(loaded, layers(loaded.model)).identity for _ in range(2)]
    assert same[0] == same[1]
    others = {
        student_of(loaded, layers(loaded.model, seed=1)).identity,
        student_of(loaded).identity,
        student_of(tiny("wan22_14b_low"), layers(loaded.model)).identity,
    }
    assert len(others | set(same)) == 4


def test_comfyui_does_not_take_away_what_is_trained_and_gives_its_memory_to_the_gradients(tiny):
    loaded = tiny("wan21")
    lora = {"diffusion_model.blocks.0.self_attn.q.diff": torch.ones(64, 64)}
    patched, _ = comfy.sd.load_lora_for_models(loaded.model, None, lora, 1.0, 0.0)
    assert patched.patches
    student = student_of(SimpleNamespace(model=patched))
    weight = student.network.blocks[0].self_attn.q.weight
    comfy.model_management.current_loaded_models.clear()  # what earlier tests of this process left there
    before, case = weight.detach().clone(), Case(loaded, student)
    assert not torch.equal(before.float(), loaded.model.model.diffusion_model.blocks[0].self_attn.q.weight.float())
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    assert torch.equal(weight, before) and student.network.blocks[0].self_attn.q.weight is weight
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([loaded.clip.patcher])
    assert comfy.model_management.current_loaded_models
    with torch.no_grad():
        case.loss()
    assert comfy.model_management.current_loaded_models
    case.loss()
    assert not comfy.model_management.current_loaded_models


def test_models_that_cannot_be_trained_are_refused(tiny):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match="carries no TTT layers to train"):
        TTTStudent(loaded.model)
    with pytest.raises(ValueError, match="works on one segment at a time and training shows all"):
        TTTStudent(patching.attach(ttt.apply(loaded.model, None), Watcher()))
    strange = ttt.apply(loaded.model, None)
    strange.cached_patcher_init = None
    with pytest.raises(ValueError, match="cannot load this model a second time"):
        TTTStudent(strange)
    assert family_of(loaded.model).NAME
