"""Training the picture book: what is encoded stays as it was, a stopped run goes on, and core loads what it exports."""

import logging
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import nodes as core

from longreel.demo import text_encoder, twin
from longreel.demo import train_vae as shape_world_vae
from longreel.demo.latents import decode as decode_latents
from longreel.demo.latents import encode as encode_latents
from longreel.demo.picture_book import book, encode, running, train, train_dit, train_vae
from longreel.hosts import demo_model

NEVER = ()  # a Stop that is never asked


class AfterSteps:
    """A Stop that is asked once a training loop has looked at it so many times."""

    def __init__(self, looks: int):
        self.looks = looks

    def __bool__(self):
        self.looks -= 1
        return self.looks < 0


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A work folder with a VAE, shape world's, and a clip with a cut."""
    work = tmp_path_factory.mktemp("work")
    shutil.copy(twin.WEIGHTS / twin.VAE, work / encode.VAE_FILE)
    (work / "latents").mkdir()
    vae = twin.vae(work / encode.VAE_FILE)
    with pytest.MonkeyPatch.context() as patch:
        for name, group in encode.GROUPS.items():
            patch.setitem(encode.GROUPS, name, replace(group, per_file=1))
            if name == "cuts":
                encode.encode_file(vae, name, 0, work / "latents" / f"{name}_000.pt")
        first = torch.load(work / "latents" / "cuts_000.pt", weights_only=False)
        encode.encode_file(vae, "cuts", 0, work / "again.pt")
    return work, first


def test_a_file_of_clips_depends_on_its_number_alone(encoded):
    work, first = encoded
    again = torch.load(work / "again.pt", weights_only=False)
    assert again["pages"] == first["pages"]
    assert torch.equal(again["latents"], first["latents"])
    assert first["latents"].shape == (1, 16, 9, 12, 12)


def test_a_cut_stands_where_a_latent_frame_begins(encoded):
    _, first = encoded
    for (one, two), latents in zip(first["pages"], first["latents"], strict=True):
        video = encode.render((one, two), 33)
        assert torch.equal(video[16], book.render(one, 17)[16]) and torch.equal(video[17], book.render(two, 16)[0])
        change = (latents[:, 1:] - latents[:, :-1]).float().square().mean((0, 2, 3))
        assert int(change[1:].argmax()) == 3  # between the fifth and the sixth; the first frame is encoded differently


def noise_clips(work, clips=104):
    """Noise in the place of latents, with real pages, for steps that need many clips."""
    folder = work / "noise" / "latents"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pictures", "pictures64", "clips"):
        group, rng = encode.GROUPS[name], random.Random(1)
        shape = (clips, 16, 1 + (group.frames - 1) // 4, group.side // 8, group.side // 8)
        pages = [
            (book.Page("meadow", (book.Thing("cat", "red", rng.choice(("crosses", "stays still"))),), side=group.side),)
            for _ in range(clips)
        ]
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(1)).half()
        frames = torch.full((clips,), shape[2])
        torch.save({"latents": latents, "pages": pages, "latent_frames": frames}, folder / f"{name}_000.pt")
    return work / "noise"


def test_a_stopped_training_goes_on(encoded, monkeypatch):
    monkeypatch.setattr(train_dit, "TOKENS", 200)
    monkeypatch.setattr(train_dit, "SHAPE", {**train_dit.SHAPE, "width": 32, "ffn_width": 32, "heads": 1, "layers": 1})
    work = noise_clips(encoded[0])
    assert not train_dit.train(work, AfterSteps(2), compiled=False)
    stopped = torch.load(work / "dit.pt")
    assert stopped["step"] == 2
    assert not train_dit.train(work, AfterSteps(1), compiled=False)
    later = torch.load(work / "dit.pt")
    assert later["step"] == 3 and later["seconds"] > stopped["seconds"]
    assert train_dit.train(work, NEVER, scale=1e-6, compiled=False)  # the planned time is over: nothing to do
    assert train_dit.train(work, NEVER, scale=1e-6, until="pictures", compiled=False)
    assert torch.load(work / "dit.pt")["step"] == 3


def test_another_machine_goes_on_from_what_was_exported(encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(train_dit, "TOKENS", 200)
    monkeypatch.setattr(train_dit, "SHAPE", {**train_dit.SHAPE, "width": 32, "ffn_width": 32, "heads": 1, "layers": 1})
    noise, here, there, exported = noise_clips(encoded[0]), tmp_path / "here", tmp_path / "there", tmp_path / "exported"
    for work in (here, there):
        shutil.copytree(noise / "latents", work / "latents")
    shutil.copy(encoded[0] / encode.VAE_FILE, here)
    train.export(here, exported)
    assert [file.name for file in exported.iterdir()] == [twin.VAE]  # the transformer has not begun
    assert not train_dit.train(here, AfterSteps(2), compiled=False)
    train.export(here, exported)
    train.begin(there, exported)
    one, other = (torch.load(work / "dit.pt") for work in (here, there))
    assert (other["step"], other["seconds"]) == (2, one["seconds"])
    assert one["ema"].keys() == other["ema"].keys() == other["model"].keys()
    for name, average in one["ema"].items():
        assert torch.equal(other["ema"][name], average.half().float()), name
        assert torch.equal(other["model"][name], average.half().float()), name
    assert not train_dit.train(there, AfterSteps(1), compiled=False)
    assert torch.load(there / "dit.pt")["step"] == 3
    with pytest.raises(SystemExit, match="has a trained VAE already"):
        train.begin(there, exported)


def test_the_kept_checkpoint_is_one_to_go_on_from(tmp_path):
    kept = Path(train.__file__).parent / "checkpoint"
    train.begin(tmp_path / "work", kept)
    learner = train_dit.new_learner()
    learner.load(tmp_path / "work" / "dit.pt")
    assert learner.step > 1000 and 0 < learner.seconds < train_dit.HOURS * 3600
    embedding = twin.text(kept).embedding.weight
    assert torch.equal(learner.encoder.embedding.weight, embedding) and embedding.std() > 0.1
    vae = twin.vae(tmp_path / "work" / encode.VAE_FILE)
    assert shape_world_vae.psnr(vae, train_vae.held_out_clips(2)) > 27  # decibels; 29.4 on 24 clips


def test_a_stage_waits_for_its_own_clips_alone(encoded, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(encode, "encode_file", lambda vae, group, number, file: made.append(file.name))
    monkeypatch.setattr(train_vae.vae_net, "compile_norms", lambda: None)
    shutil.copy(encoded[0] / encode.VAE_FILE, tmp_path)
    files = train.files_for(train_dit.STAGES["pictures"], scale=0.4)
    assert encode.encode_groups(tmp_path, NEVER, files)
    assert made == ["pictures_000.pt", "pictures_001.pt", "pictures64_000.pt", "clips_000.pt"]
    (tmp_path / "latents" / "pictures_000.pt").touch()
    assert not encode.encode_groups(tmp_path, AfterSteps(1), files)
    assert made[4:] == ["pictures_001.pt"]


def test_pairs_show_one_thing_and_mostly_do_not_say_it_again(encoded):
    clips = train_dit.Clips(noise_clips(encoded[0]) / "latents")
    rng = random.Random(2)
    drawn = [train_dit.draw_pairs(clips, 5, rng) for _ in range(20)]
    for numbers, sentences in drawn:
        assert len(numbers) == len(sentences) and len(numbers) % 2 == 0
        assert min(numbers) >= train_dit.HELD_OUT
    later = [s for numbers, sentences in drawn for s in sentences[len(sentences) // 2 :] if s]
    said = sum("cat" in s for s in later) / len(later)
    assert 0.3 < said < 0.65  # 60 % leave the kind out, but where another thing is named


def test_stages_follow_each_other_and_end_with_a_low_rate():
    names = [train_dit.stage_at(3600 * hours / 10)[0] for hours in range(round(train_dit.HOURS * 10))]
    assert list(dict.fromkeys(names)) == list(train_dit.STAGES)
    assert train_dit.stage_at(train_dit.HOURS * 3600)[2] < 0.05
    lengths = {frames for stage in train_dit.STAGES.values() for _, frames in stage.mixture}
    assert lengths == {1, 5, 6, 9, 13}


def test_things_count_more_than_places_for_the_vae():
    video, weight = train_vae.clips(random.Random(1), 1, 4, 64)
    assert video.shape == (4, 3, 1, 64, 64) and weight.shape == (4, 1, 1, 64, 64)
    assert set(weight.unique().tolist()) == {1.0, train_vae.THING_WEIGHT}
    assert 0.02 < float((weight > 1).float().mean()) < 0.4
    torch.manual_seed(1)
    learner = shape_world_vae.Learner(4, decoder_alone=False)
    again = shape_world_vae.Learner(4, decoder_alone=False)
    again.vae.load_state_dict(learner.vae.state_dict())
    losses = []
    for one, by in ((learner, weight), (again, torch.ones_like(weight))):
        torch.manual_seed(2)
        losses.append(one.update(video.bfloat16(), 1e-3, by)[0])
    assert losses[0] > losses[1] * 1.05


def test_a_decoder_that_goes_on_alone_leaves_the_latents_as_they_are(encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(train_vae, "DIM", 8)
    monkeypatch.setattr(train_vae, "PHASES", ((1.0, 1, 2, 64, 1e-3, 1e-3),))
    monkeypatch.setattr(train_vae.vae_net, "compile_norms", lambda: None)
    video = train_vae.held_out_clips(1, 5)
    monkeypatch.setattr(train_vae, "held_out_clips", lambda count: video)
    shutil.copy(encoded[0] / encode.VAE_FILE, tmp_path)
    before = twin.vae(tmp_path / encode.VAE_FILE)
    assert not encode.finish_decoder(tmp_path, 3e-4, AfterSteps(2))
    assert torch.load(tmp_path / "decoder.pt")["step"] == 2
    assert encode.finish_decoder(tmp_path, 3e-4, NEVER)
    after = twin.vae(tmp_path / encode.VAE_FILE)
    steps = torch.load(tmp_path / "decoder.pt")["step"]
    assert encode.finish_decoder(tmp_path, 3e-4, NEVER) and torch.load(tmp_path / "decoder.pt")["step"] == steps > 2
    assert torch.equal(encode_latents(before, video), encode_latents(after, video))
    known = encode_latents(before, video)
    assert not torch.equal(decode_latents(before, known), decode_latents(after, known))


def test_sigterm_asks_to_stop():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = running.Stop()
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_core_loads_what_is_exported_and_understands_its_words(encoded, tmp_path, caplog):
    work = encoded[0]
    ema = dict(train_dit.new_learner().both.state_dict())
    running.save({"ema": ema, "step": 0, "seconds": 0.0}, work / "new.pt")
    train.export(work, tmp_path, checkpoint="new.pt")
    with torch.inference_mode():
        model, clip, _ = demo_model.load_demo_model(tmp_path)
        with caplog.at_level(logging.WARNING):
            context = core.CLIPTextEncode().encode(clip, "a ginger cat chases a grey mouse across a meadow")[0][0][0]
        assert not caplog.records
        assert context.shape == (1, text_encoder.TOKENS, text_encoder.BOOK_WIDTH)
        assert model.model.diffusion_model.dim == train_dit.SHAPE["width"]
        core.CLIPTextEncode().encode(demo_model.load_demo_model()[1], "a cat")
    assert any('does not know "cat"' in record.getMessage() for record in caplog.records)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 16e6
