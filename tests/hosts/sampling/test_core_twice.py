"""Whatever core has, twice in a row: every sampler, and every node that patches a MODEL or a CONDITIONING.

What is handed to it comes back as it was, the second sampling is the first one to the bit, and a run on disk goes on
with nothing made again: with the same node object, and with a new one, as after a restart. A node that core's own
sampling of this model cannot stand is left out; one that Longreel cannot stand is refused by name.
"""

import hashlib
import traceback
from copy import copy
from pathlib import Path

import pytest
import torch

import comfy.hooks
import comfy.samplers

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.sampling import identity, joint, planning, rollout
from longreel.hosts.windows import latent_blend
from tests import core_nodes, tiny_sampling
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import encode

STEPS = 2
PACK = Path(joint.__file__).resolve().parents[2]
WINDOWS = {"context_length": 2, "context_overlap": 1}
OWN_INPUTS = {  # what makes a node do something on a video this short
    "ContextWindowsManual": {**WINDOWS, "dim": 2},
    "WanContextWindowsManual": {"context_length": 5, "context_overlap": 4},
    "LTXVContextWindows": {"context_length": 9, "context_overlap": 8},
    "EasyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "LazyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "APG": {"momentum": 0.5},
}
OF_OTHER_NETWORKS = "ModelMerge"  # one node for each network; those of any network begin so, too
MERGES = ("ModelMergeSimple", "ModelMergeAdd", "ModelMergeSubtract", "ModelMergeBlocks", "ModelMergeWAN2_1")
LEFT_OUT = ("TorchCompileModel", "ARVideoI2V")  # compiles for a minute; encodes for models that are refused by name
NOT_HERE = {  # nodes with an input that no tiny model has: a file, a ControlNet, audio
    *("AnimaLLLiteApply", "ControlNetApply", "ControlNetApplyAdvanced", "ControlNetApplySD3", "HypernetworkLoader"),
    *("ControlNetInpaintingAliMamaApply", "GLIGENTextBoxApply", "HiDreamO1ReferenceImages", "LTXVReferenceAudio"),
    *("LatentApplyOperationCFG", "LoraLoader", "LoraLoaderBypass", "LoraLoaderBypassModelOnly", "LoraLoaderModelOnly"),
    *("LoraModelLoader", "QwenImageDiffsynthControlnet", "SUPIRApply", "StyleModelApply", "USOStyleReference"),
    *("WanInfiniteTalkToVideo", "WanUni3CControlnetApply", "ZImageFunControlnet", "unCLIPConditioning"),
}
NOT_OF_WAN = {  # nodes of other networks, which core's own sampling of a Wan model cannot stand either
    *("FluxKVCache", "FreeU", "FreeU_V2", "HyperTile", "RenormCFG", "SelfAttentionGuidance", "TomePatchModel"),
    *("TripoSplatSamplingPreview", "ConditioningSetAreaPercentage", "HunyuanVideo15ImageToVideo", "LTXVAddGuide"),
    *("HunyuanVideo15SuperResolution", "LTXVImgToVideo", "ResolutionBucket"),
}


@pytest.fixture(scope="module")
def loaded(tiny_models):
    """Two of its four blocks: what nodes patch is in every one of them, and every sampling here asks all."""
    loaded = tiny_models["wan21"].load()
    del loaded.model.model.diffusion_model.blocks[2:]
    return loaded


@pytest.fixture(scope="module")
def timeline(loaded):
    shots = tuple(Shot(f"scene {i}", 0.75, transition=how) for i, how in enumerate(("continue", "cut")))
    board = Storyboard(shots, width=32, height=32, fps=16.0, negative="blurry")
    return plan_timeline(board, facts_of(loaded.model), segment_frames=3, overlap_frames=1)


@pytest.fixture(scope="module")
def conds(loaded, timeline):
    return encode(loaded, timeline)


class Twice:
    """A sampling of one MODEL and one pair of CONDITIONING, in both modes, made again with the same and new objects."""

    def __init__(self, timeline, conds, sampler=None, steps=STEPS):
        self.timeline, self.conds, self.sampler, self.steps = timeline, conds, sampler, steps
        self.latent = planning.empty_latent(timeline)

    def settings(self, model, conds):
        sampler = sampler_for(model) if self.sampler is None else comfy.samplers.sampler_object(self.sampler)
        return sampling_of(conds, sigmas_of(model, self.steps), sampler)

    def joint(self, model, conds, settings=None) -> torch.Tensor:
        with torch.inference_mode():
            settings = self.settings(model, conds) if settings is None else settings
            return joint.sample_timeline(model, self.timeline, self.latent, settings, blend="triangle")["samples"]

    def core(self, model, conds) -> torch.Tensor:
        """All frames at once, with the first shot's prompts, as core alone would."""
        first = tuple(entries[:1] for entries in conds)
        with torch.inference_mode():
            return joint.sample_attached(model, self.timeline, self.latent, self.settings(model, first))["samples"]

    def rollout(self, model, conds, folder, settings=None) -> tuple[torch.Tensor, str]:
        with torch.inference_mode(), open_run(folder) as run:
            settings = self.settings(model, conds) if settings is None else settings
            out, report = rollout.sample_rollout(model, self.timeline, self.latent, settings, run=run)
            run.finish(False)
        return out["samples"], report

    def check(self, made: list[tuple], tmp_path) -> None:
        """made: (model, conds), twice the same and once made anew."""
        rolled = [self.rollout(*one, tmp_path / "run") for one in made]
        assert "made" in rolled[0][1]
        assert not [report for _, report in rolled[1:] if "made" in report], "a resumed rollout makes chunks again"
        outs = [self.joint(*one) for one in made[1:]]
        assert all(torch.equal(out, outs[0]) for out in outs), "joint"


def frozen(value: object) -> str:
    """A digest of all numbers of what is handed over, to compare before and after."""
    if isinstance(value, torch.Tensor):
        numbers = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(numbers).hexdigest()}"
    if isinstance(value, dict):
        return str({str(key): frozen(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return str([frozen(item) for item in value])
    return str(identity.plain(value))


def refused(error: Exception) -> bool:
    """Whether Longreel raised this, in words."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).resolve().is_relative_to(PACK) and isinstance(error, (ValueError, RuntimeError))


@pytest.mark.parametrize("name", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_leaves_its_inputs_and_makes_the_same_again(loaded, timeline, conds, tmp_path, name: str):
    twice = Twice(timeline, conds, name)
    settings, model = twice.settings(loaded.model, conds), loaded.model
    handed = (settings.sigmas, conds, twice.latent, model.model_options, copy(settings.sampler.__dict__))
    before = [frozen(value) for value in handed]
    outs = [twice.joint(model, conds, settings) for _ in range(2)]
    rolled = [twice.rollout(model, conds, tmp_path / place, settings) for place in ("run", "run")]
    handed = (settings.sigmas, conds, twice.latent, model.model_options, copy(settings.sampler.__dict__))
    assert [frozen(value) for value in handed] == before
    assert torch.equal(*outs) and outs[0].isfinite().all()
    assert "made" not in rolled[1][1], "a resumed rollout makes chunks again"
    assert all(torch.equal(out, rolled[0][0]) for out, _ in rolled)


def fails(work) -> Exception | None:
    """What `work` raises that Longreel has not said itself."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - core's nodes fail in any way
        return None if refused(error) else error
    return None


def check_left_out(name: str, error: Exception | None, core) -> None:
    """A node fails where core's own sampling fails too, and is known for it."""
    if isinstance(error, core_nodes.NotHere):
        assert name in NOT_HERE, f"has an input {error}"
    elif error is not None and (name not in NOT_OF_WAN or fails(core) is None):
        raise error


def model_nodes() -> list[str]:
    found = list(core_nodes.that_patch("MODEL"))
    assert {"EasyCache", "APG", "WanContextWindowsManual", "PerpNeg", "FreeU"} <= set(found)
    return [
        name for name in found if name not in LEFT_OUT and (name in MERGES or not name.startswith(OF_OTHER_NETWORKS))
    ]


def given_to(loaded, timeline, conds) -> dict:
    """What a graph would wire into a node, by kind."""
    latent = planning.empty_latent(timeline)
    mask = torch.ones(1, *latent["samples"].shape[-2:])
    mask[:, :4] = 0
    return {
        "MODEL": loaded.model,
        "CONDITIONING": conds[0],
        "LATENT": latent,
        "CLIP": loaded.clip,
        "VAE": loaded.vae,
        "MASK": mask,
        "IMAGE": torch.full((5, timeline.height, timeline.width, 3), 0.5),
        "HOOKS": comfy.hooks.create_hook_lora(lora={}, strength_model=1.0, strength_clip=0.0),
        "TIMESTEPS_RANGE": (0.0, 0.5),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", model_nodes())
def test_every_node_that_patches_a_model(loaded, timeline, conds, tmp_path, name: str):
    """In front of Longreel Sampler, and on either side of Longreel Latent Blend with core's KSampler."""
    given = given_to(loaded, timeline, conds)
    given["CONDITIONING"] = tiny_sampling.encode(loaded.clip, "")  # PerpNeg's empty prompt belongs to no shot
    twice = Twice(timeline, conds)

    def make(model=loaded.model):
        return core_nodes.call(name, {**given, "MODEL": model}, **OWN_INPUTS.get(name, {}))["MODEL"]

    def in_front() -> None:
        patched = make()
        options = frozen(patched.model_options)
        twice.check([(patched, conds), (patched, conds), (make(), conds)], tmp_path)
        assert frozen(patched.model_options) == options

    def beside_latent_blend() -> None:
        orders = [
            latent_blend.attach(make(), timeline, "triangle"),
            make(latent_blend.attach(loaded.model, timeline, "triangle")),
        ]
        outs = [tiny_sampling.sample(model, *conds, twice.latent, steps=STEPS) for model in (*orders, orders[1])]
        assert torch.equal(outs[0], outs[1]), "whichever comes first"
        assert torch.equal(outs[1], outs[2]), "twice in a row"

    for work in (in_front, beside_latent_blend):
        check_left_out(name, fails(work), lambda: twice.core(make(), conds))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(core_nodes.that_patch("CONDITIONING")))
def test_every_node_that_patches_a_conditioning(loaded, timeline, conds, tmp_path, name: str):
    given, asked = given_to(loaded, timeline, conds), core_nodes.inputs(core_nodes.mappings()[name])
    sizes = {"width": timeline.width, "height": timeline.height, "length": timeline.pixel_frames}
    own = {key: value for key, value in sizes.items() if key in asked and asked[key][0] == "INT"}
    twice, before = Twice(timeline, conds), frozen(conds)

    def make():
        return core_nodes.call(name, given, **own)["CONDITIONING"], conds[1]

    def work() -> None:
        made = make()
        handed = frozen(made)
        twice.check([(loaded.model, made), (loaded.model, made), (loaded.model, make())], tmp_path)
        assert frozen(made) == handed

    check_left_out(name, fails(work), lambda: twice.core(loaded.model, make()))
    assert frozen(conds) == before


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_lora_by_hooks_on_the_prompts(loaded, timeline, conds, tmp_path, scheduled: bool):
    """The way to give one shot a LoRA of its own; its keyframes count steps while it is sampled."""
    width = loaded.model.model.state_dict()["diffusion_model.blocks.0.self_attn.q.weight"].shape[0]
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"diffusion_model.blocks.0.self_attn.q.lora_{half}.weight": torch.randn(shape, generator=generator)
        for half, shape in (("A", (4, width)), ("B", (width, 4)))
    }

    def make():
        hooks = comfy.hooks.create_hook_lora(lora=lora, strength_model=1.0, strength_clip=0.0)
        if scheduled:
            frames = comfy.hooks.HookKeyframeGroup()
            for percent in (0.0, 0.4, 0.8):
                frames.add(comfy.hooks.HookKeyframe(strength=1 - percent, start_percent=percent))
            hooks.set_keyframes_on_hooks(frames)
        return loaded.model, (comfy.hooks.set_hooks_for_conditioning(conds[0], hooks), conds[1])

    same = make()
    twice = Twice(timeline, conds, steps=4)
    twice.check([same, same, make()], tmp_path)
    assert not torch.equal(twice.joint(*same), twice.joint(loaded.model, conds)), "the LoRA counts"
