"""training/anchor_trainer.py: what is shown, what is learned, what a run's folder holds, and how a run goes on."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from longreel.demo import dit_net
from longreel.engine.plan.facts import ModelFacts
from longreel.engine.sampling.denoising import FlowMatching
from longreel.training import draws
from longreel.training.anchor_config import AnchorConfig, LoRASettings, config_of
from longreel.training.anchor_trainer import LORA_FILE, AnchorTrainer

FRAMES, SIDE = 3, 4


class Student:
    """The demo's twin, untrained and small, that remembers what it was shown."""

    def __init__(self, patch_frames: int = 1):
        torch.manual_seed(0)
        self.network = dit_net.DiT(width=32, ffn_width=48, heads=2, layers=2, text_width=8).requires_grad_(False)
        with torch.no_grad():
            for value in self.network.parameters():
                value.add_(torch.randn_like(value) * 0.05)
        self.facts = ModelFacts("Wan", 16, 4, 8, 16, FRAMES, 16.0, patch_frames=patch_frames)
        self.device, self.top_level, self.identity = torch.device("cpu"), 1.0, "small"
        self.objective = FlowMatching(3.0)
        self.shown: list[tuple] = []

    def predict(self, noised, levels, conditioning, is_anchor):
        self.shown.append((noised.detach().clone(), levels.clone(), conditioning["text"].clone(), is_anchor.clone()))
        return self.network(noised, (levels * 1000)[:, None] * (1 - is_anchor), conditioning["text"][:, 0])


class SmallClips:
    """Clips of random numbers; each has a picture of its last frame."""

    def __init__(self, count: int = 6, held_out: int = 1):
        generator = torch.Generator().manual_seed(1)
        self.latents = torch.randn(count, 16, FRAMES, SIDE, SIDE, generator=generator)
        self.stills = torch.randn(count, 16, SIDE, SIDE, generator=generator)
        self.texts = torch.randn(count, 1, 5, 8, generator=generator)
        self.trained, self.held_out = list(range(count - held_out)), list(range(count - held_out, count))
        self.identity = [count, held_out]

    def latent(self, number):
        return self.latents[number]

    def conditioning(self, number, unconditional):
        return {"text": torch.zeros(1, 5, 8) if unconditional else self.texts[number]}

    def still(self, number):
        return FRAMES - 1, self.stills[number]


SMALL = LoRASettings(
    rank=4,
    targets="blocks.*",
    steps=4,
    warmup_steps=1,
    rate=1e-2,
    end_rate=1e-3,
    batch=4,
    micro_batch=4,
    ema=0.0,
    checkpoint_every=2,
    validate_every=2,
)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(dit_net, "HALF_PRECISION", False)


def trainer(folder, student=None, clips=None, **settings) -> AnchorTrainer:
    return AnchorTrainer(student or Student(), clips or SmallClips(), AnchorConfig(folder, replace(SMALL, **settings)))


def shown_in_a_step(tmp_path, patch_frames: int = 1, clips=None, **settings):
    """Noised [B, C, F, H, W], levels [B], text, is_anchor [B, F] of a large first batch, and the clips' numbers."""
    student = Student(patch_frames)
    run = trainer(tmp_path, student, clips, batch=60, micro_batch=60, **settings)
    run._step(0)
    order = draws.order(0, "anchor", 0, 60, len(run.clips.trained))
    return (*student.shown[0], [run.clips.trained[number] for number in order], run.clips)


def test_the_anchor_is_shown_clean_at_time_zero_and_all_else_is_noisy(tmp_path):
    noised, _levels, _, is_anchor, numbers, clips = shown_in_a_step(tmp_path, still_share=0.0)
    assert is_anchor.sum(1).eq(1).all()
    for row, number in enumerate(numbers):
        equal = [torch.equal(noised[row, :, frame], clips.latents[number, :, frame]) for frame in range(FRAMES)]
        assert equal == is_anchor[row].bool().tolist()


def test_first_share_says_how_often_the_anchor_comes_first(tmp_path):
    first = shown_in_a_step(tmp_path / "first", first_share=1.0)[3]
    anywhere = shown_in_a_step(tmp_path / "any", first_share=0.0, still_share=0.0)[3]
    assert first[:, 0].eq(1).all()
    assert (anywhere.sum(0) > 8).all()  # a third of 60 each, by chance


def test_later_anchors_are_pictures_as_often_as_still_share_says(tmp_path):
    noised, _, _, is_anchor, numbers, clips = shown_in_a_step(tmp_path, first_share=0.0, still_share=1.0)
    assert is_anchor[:, FRAMES - 1].eq(1).all()
    assert all(torch.equal(noised[row, :, FRAMES - 1], clips.stills[number]) for row, number in enumerate(numbers))


def test_an_anchor_fills_a_token_of_two_latent_frames(tmp_path):
    is_anchor = shown_in_a_step(tmp_path, patch_frames=2, first_share=0.3, still_share=0.5)[3]
    assert (is_anchor[:, 0] == is_anchor[:, 1]).all() and is_anchor[:, 2].any() and is_anchor[:, 0].any()


def test_only_the_asked_part_of_the_schedule_is_trained(tmp_path):
    levels = shown_in_a_step(tmp_path, noise_from=0.6, noise_to=0.9)[1]
    assert levels.min() >= 0.6 and levels.max() <= 0.9 and levels.std() > 0.02


def test_prompts_are_dropped_as_often_as_text_dropout_says(tmp_path):
    texts = shown_in_a_step(tmp_path, text_dropout=0.5)[2]
    unconditional = texts.flatten(1).abs().sum(1).eq(0).float().mean()
    assert 0.25 < unconditional < 0.75


def test_the_anchors_frame_is_no_part_of_the_loss(tmp_path):
    student = Student()
    run = trainer(tmp_path, student, first_share=1.0)
    numbers, where = [0, 1], [("anchor", 0, 0), ("anchor", 0, 1)]
    said = student.predict

    def wrong_at_the_anchor(noised, levels, conditioning, is_anchor):
        return said(noised, levels, conditioning, is_anchor) + 100.0 * is_anchor[:, None, :, None, None]

    before = run._losses(numbers, [False] * 2, torch.tensor([0.5, 0.7]), where)
    student.predict = wrong_at_the_anchor
    assert torch.equal(run._losses(numbers, [False] * 2, torch.tensor([0.5, 0.7]), where), before)


def test_training_lowers_the_loss_of_clips_that_it_sees(tmp_path):
    clips = SmallClips()
    clips.latents *= 0.1  # so that noise can be told from video
    run = trainer(
        tmp_path, clips=clips, rank=16, steps=60, rate=2e-2, text_dropout=0.0, validate_every=100, checkpoint_every=100
    )
    run.train()
    losses = [row.loss for row in run.rows]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


def test_the_file_has_comfyuis_names_and_only_the_targets(tmp_path):
    path = trainer(tmp_path, targets="blocks.*.self_attn.q, *ffn.0", alpha=2.0).train()
    weights = load_file(path)
    layers = {f"diffusion_model.blocks.{n}.{part}" for n in range(2) for part in ("self_attn.q", "ffn.0")}
    assert set(weights) == {
        layer + end for layer in layers for end in (".lora_down.weight", ".lora_up.weight", ".alpha")
    }
    assert weights["diffusion_model.blocks.0.ffn.0.lora_up.weight"].shape == (48, 4)
    assert weights["diffusion_model.blocks.0.ffn.0.alpha"].item() == 2.0
    assert any(value.any() for name, value in weights.items() if name.endswith("lora_up.weight"))


def test_an_untrained_adapter_changes_nothing(tmp_path):
    plain, adapted = Student(), Student()
    trainer(tmp_path, adapted)
    x, is_anchor = torch.randn(2, 16, FRAMES, SIDE, SIDE), torch.tensor([[1.0, 0, 0]] * 2)
    given = (x, torch.tensor([0.3, 0.8]), {"text": torch.randn(2, 1, 5, 8)}, is_anchor)
    assert torch.equal(plain.predict(*given), adapted.predict(*given))


class Stop(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path):
    whole = load_file(trainer(tmp_path / "whole").train())

    def stop(done, row):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        trainer(tmp_path / "cut").train(stop)
    again = trainer(tmp_path / "cut")
    assert len(again.rows) == 3
    resumed = load_file(again.train())
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert (tmp_path / "cut" / "loss.png").is_file() and (tmp_path / "cut" / LORA_FILE).is_file()


def test_smaller_micro_batches_learn_the_same(tmp_path):
    one, two = (load_file(trainer(tmp_path / str(size), micro_batch=size).train()) for size in (4, 2))
    assert all(torch.allclose(one[name].float(), two[name].float(), atol=1e-3) for name in one)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rank": 8}, "with rank 4, and now it is 8"),
        ({"targets": "*ffn*"}, "with targets"),
        ({"rate": 1e-3}, "with rate"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(tmp_path, change, message):
    trainer(tmp_path).train()
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **change)


def test_a_run_does_not_go_on_with_other_clips(tmp_path):
    trainer(tmp_path).train()
    with pytest.raises(ValueError, match="with clips"):
        trainer(tmp_path, clips=SmallClips(count=7))


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(tmp_path):
    trainer(tmp_path).train()
    assert len(trainer(tmp_path, steps=6).rows) == 4


def test_targets_that_fit_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'\*attn3\*' fits none of the \d+ linear layers"):
        trainer(tmp_path, targets="*attn3*")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rank": 257}, "rank is 257, not 1 to 256"),
        ({"rank": 0}, "rank is 0"),
        ({"first_share": 1.5}, "first_share is 1.5"),
        ({"noise_from": 0.9, "noise_to": 0.2}, "0.9 to noise_to 0.2"),
        ({"warmup_steps": 9}, "warmup_steps is 9"),
        ({"batch": 0}, "batch is 0"),
        ({"rate": -1.0}, "rate is -1"),
    ],
)
def test_settings_out_of_range_name_their_field(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_misspelt_key_is_named_with_the_nearest_one(tmp_path):
    with pytest.raises(ValueError, match='lora.rnak is no known key; did you mean "rank"'):
        config_of({"folder": "x", "lora": {"rnak": 3}}, tmp_path)
    assert config_of({"folder": "x", "lora": {"rank": 3}}, tmp_path).lora.rank == 3
