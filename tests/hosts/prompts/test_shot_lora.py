"""hosts/prompts/shot_lora.py: a shot's LoRAs change that shot alone, as core's loader would, and mix as prompts do."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import folder_paths
import nodes
from comfy.hooks import HookGroup, create_hook_lora

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.storyboard.carried import LoRA
from longreel.engine.storyboard.faults import StoryboardError
from longreel.hosts import facts_of
from longreel.hosts.keys import SHOT
from longreel.hosts.prompts.conditioning import encode_timeline, entries_for
from longreel.hosts.prompts.shot_lora import find_lora, hooks_of_shots, mixed_hooks
from longreel.hosts.sampling import joint, planning, rollout
from longreel.hosts.ttt import timeline as ttt_timeline
from tests import tiny_sampling
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of

PLACE = "diffusion_model.blocks.0.self_attn.q"
INK, OIL = LoRA("ink.safetensors"), LoRA("styles/oil.safetensors", 0.5)
CUT, BLEND = "cut", "blend"


@pytest.fixture(scope="module")
def loaded(tiny_models):
    """Two of its four blocks, for a LoRA of the first."""
    loaded = tiny_models["wan21"].load()
    del loaded.model.model.diffusion_model.blocks[2:]
    return loaded


@pytest.fixture(scope="module", autouse=True)
def files(loaded, tmp_path_factory):
    """ComfyUI's loras folder in this process: two LoRAs of the model, one of another, one that is cut off."""
    folder = tmp_path_factory.mktemp("loras")
    (folder / "styles").mkdir()
    width = loaded.model.model.state_dict()[f"{PLACE}.weight"].shape[0]
    for seed, (name, place) in enumerate(
        {"ink": PLACE, "styles/oil": PLACE, "stranger": "diffusion_model.double_blocks.0.img_mod"}.items()
    ):
        generator = torch.Generator().manual_seed(seed)
        halves = {"A": (4, width), "B": (width, 4)}
        weights = {
            f"{place}.lora_{half}.weight": torch.randn(shape, generator=generator) for half, shape in halves.items()
        }
        save_file(weights, folder / f"{name}.safetensors")
    (folder / "half.safetensors").write_bytes((folder / "ink.safetensors").read_bytes()[:300])
    kept = folder_paths.folder_names_and_paths["loras"]
    folder_paths.folder_names_and_paths["loras"] = ([str(folder)], kept[1])
    yield folder
    folder_paths.folder_names_and_paths["loras"] = kept


def planned(loaded, *loras: tuple[LoRA, ...], transition: str = CUT):
    shots = tuple(Shot(f"scene {i}", 0.75, transition, lora=lora) for i, lora in enumerate(loras))
    board = Storyboard(shots, width=32, height=32, fps=16.0, negative="blurry")
    return plan_timeline(board, facts_of(loaded.model), segment_frames=3, overlap_frames=1, transition_prompts=1)


def settings(loaded, timeline, conds=None):
    conds = encode_timeline(loaded.clip, timeline) if conds is None else conds
    return sampling_of(conds, sigmas_of(loaded.model, 2), sampler_for(loaded.model))


def together(loaded, timeline, *, model=None, conds=None) -> torch.Tensor:
    with torch.inference_mode():
        sampling, latent = settings(loaded, timeline, conds), planning.empty_latent(timeline)
        return joint.sample_timeline(model or loaded.model, timeline, latent, sampling, blend="triangle")["samples"]


def rolled(loaded, timeline, folder=None, *, model=None) -> tuple[torch.Tensor, str]:
    with torch.inference_mode(), open_run(folder) as run:
        sampling, latent = settings(loaded, timeline), planning.empty_latent(timeline)
        out, report = rollout.sample_rollout(model or loaded.model, timeline, latent, sampling, run=run)
        run.finish(False)
        return out["samples"], report


def by_core(loaded, *loras: LoRA):
    """The MODEL with these LoRAs by core's own loader, for the whole video."""
    model = loaded.model
    for one in loras:
        model = nodes.LoraLoaderModelOnly().load_lora_model_only(model, one.file, one.strength)[0]
    return model


@pytest.mark.parametrize("loras", [(INK,), (INK, OIL)])
def test_a_lora_of_every_shot_is_what_cores_loader_makes_of_it(loaded, loras, tmp_path) -> None:
    with_it, without = (planned(loaded, *2 * [some]) for some in (loras, ()))
    core = by_core(loaded, *loras)
    assert torch.equal(together(loaded, with_it), together(loaded, without, model=core))
    assert torch.equal(
        rolled(loaded, with_it, tmp_path / "a")[0], rolled(loaded, without, tmp_path / "b", model=core)[0]
    )
    assert not torch.equal(together(loaded, with_it), together(loaded, without))


def test_it_changes_its_own_shot_and_leaves_the_model_as_it_was(loaded, tmp_path) -> None:
    plain, changed = planned(loaded, (), ()), planned(loaded, (), (INK,))
    border = plain.shots[1].start_frame
    before = {name: weight.clone() for name, weight in loaded.model.model.state_dict().items()}
    for make in (together, lambda *given: rolled(*given, tmp_path / str(given[1] is plain))[0]):
        one, other = make(loaded, plain), make(loaded, changed)
        assert torch.equal(one[:, :, :border], other[:, :, :border])
        assert not torch.equal(one[:, :, border:], other[:, :, border:])
    after = loaded.model.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_strength_zero_changes_no_bit_and_strengths_differ(loaded) -> None:
    outs = {
        strength: together(loaded, planned(loaded, (), (replace(INK, strength=strength),)))
        for strength in (0.0, 0.5, 1.0, -1.0)
    }
    assert torch.equal(outs[0.0], together(loaded, planned(loaded, (), ())))
    assert not any(torch.equal(outs[0.0], out) for strength, out in outs.items() if strength)
    assert not torch.equal(outs[0.5], outs[1.0]) and not torch.equal(outs[-1.0], outs[1.0])


def test_a_segment_between_shots_counts_each_lora_by_its_share(loaded) -> None:
    """As core's loader does it with strengths that were multiplied by hand."""
    timeline = planned(loaded, (INK,), (OIL,), transition=BLEND)
    (mix,) = {segment.mix for segment in timeline.segments if len(segment.mix) > 1}
    for group, share in zip(hooks_of_shots(timeline), dict(mix).values(), strict=True):
        assert group is not None and 0 < share < 1
    by_hand = [replace(one, strength=one.strength * share) for one, (_, share) in zip((INK, OIL), mix, strict=True)]
    entries = [{"hooks": group} for group in hooks_of_shots(timeline)]
    mixed = mixed_hooks([(entry, share) for entry, (_, share) in zip(entries, mix, strict=True)])
    everywhere = planned(loaded, (), ())
    conds = [[[text, {**options, "hooks": mixed}] for text, options in some] for some in _conds(loaded, everywhere)]
    expected = together(loaded, everywhere, model=by_core(loaded, *by_hand))
    torch.testing.assert_close(together(loaded, everywhere, conds=conds), expected, atol=1e-5, rtol=1e-5)
    assert together(loaded, timeline).isfinite().all()


def _conds(loaded, timeline):
    return encode_timeline(loaded.clip, timeline)


def test_mixes_are_made_once_and_nothing_is_mixed_where_all_have_the_same() -> None:
    first, second = ({"hooks": create_hook_lora({}, 1.0, 0.0)} for _ in range(2))
    parts = [(first, 0.25), (second, 0.75)]
    mixed = mixed_hooks(parts)
    assert mixed_hooks(parts) is mixed and [hook.strength for hook in mixed.hooks] == [0.25, 0.75]
    assert mixed_hooks([(first, 0.5), (second, 0.5)]) is not mixed
    assert [hook.strength for hook in mixed_hooks([(first, 0.25), ({}, 0.75)]).hooks] == [0.25]
    assert mixed_hooks([(first, 0.25), ({**first}, 0.75)]) is first["hooks"]
    assert mixed_hooks([({}, 0.25), ({}, 0.75)]) is None
    entries = [{**one, SHOT: shot, "model_conds": {}} for shot, one in enumerate((first, second))]
    assert [hook.strength for hook in entries_for(entries, ((0, 0.25), (1, 0.75)))[0]["hooks"].hooks] == [0.25, 0.75]
    assert entries_for(entries, ((1, 1.0),))[0]["hooks"] is second["hooks"]


def test_a_hook_that_both_shots_have_counts_in_full() -> None:
    shared, own = create_hook_lora({}, 1.0, 0.0).hooks[0], create_hook_lora({}, 1.0, 0.0).hooks[0]
    groups = [HookGroup(), HookGroup()]
    groups[0].add(shared)
    for hook in (own, shared.clone()):
        groups[1].add(hook)
    mixed = mixed_hooks([({"hooks": groups[0]}, 0.25), ({"hooks": groups[1]}, 0.75)])
    assert {hook: hook.strength for hook in mixed.hooks} == {shared: 1.0, own: 0.75}


def test_a_run_makes_again_what_its_lora_changes_and_nothing_else(loaded, tmp_path) -> None:
    rolled(loaded, planned(loaded, (), (INK,)), tmp_path)
    assert "made" not in rolled(loaded, planned(loaded, (), (INK,)), tmp_path)[1]
    again = rolled(loaded, planned(loaded, (), (OIL,)), tmp_path)[1]
    lines = [line for line in again.splitlines() if "shot" in line]
    assert all(("reused" in line) == ("shot 1" in line) for line in lines) and len(lines) >= 2, again


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (LoRA("none.safetensors"), r"^shot 2, lora 2: file is 'none.safetensors', no file in the loras folder \(.*\);"),
        (LoRA("ink.pt"), r"^shot 2, lora 2: file is 'ink.pt', and LoRAs are read from .safetensors alone"),
        (LoRA("half.safetensors"), r"^shot 2, lora 2: half.safetensors has 300 bytes that are no whole safetensors"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_with_its_shot(loaded, lora, said) -> None:
    with pytest.raises(ValueError, match=said):
        encode_timeline(loaded.clip, planned(loaded, (), (INK, lora)))


def test_a_lora_of_another_model_is_refused_before_anything_is_sampled(loaded, tmp_path) -> None:
    timeline = planned(loaded, (INK,), (LoRA("stranger.safetensors"),))
    said = r"^shot 2: lora stranger.safetensors has 2 tensors and changes no weight of this model, WAN21; use a LoRA"
    with pytest.raises(ValueError, match=said):
        together(loaded, timeline)
    with pytest.raises(ValueError, match=said):
        rolled(loaded, timeline, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_ttt_layers_which_see_all_shots_at_once_refuse_different_loras(loaded) -> None:
    timeline = planned(loaded, (), (INK,))
    model = ttt_timeline.attach(loaded.model, timeline)
    with pytest.raises(ValueError, match=r"^the conditioning of shot 2 has another lora than that of shot 1"):
        tiny_sampling.sample(model, *_conds(loaded, timeline), planning.empty_latent(timeline))


@pytest.mark.parametrize("name", ["../ink.safetensors", "/ink.safetensors", "styles/../../ink.safetensors"])
def test_no_path_leaves_the_loras_folder(files, name) -> None:
    (files.parent / "ink.safetensors").write_bytes(b"")
    try:
        assert find_lora(name).resolve().is_relative_to(files.resolve())
    except StoryboardError:
        return
