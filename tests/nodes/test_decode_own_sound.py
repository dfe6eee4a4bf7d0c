"""nodes/decode_to_video.py with a latent that holds its own sound: both in one file, in step, for LTX-2."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import comfy.samplers
import folder_paths
from comfy.nested_tensor import NestedTensor

from longreel.engine.plan.sound import sound_of
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts.families import ltxav
from longreel.hosts.prompts.conditioning import encode_timeline
from longreel.hosts.sampling import joint, planning
from longreel.nodes import decode_to_video
from longreel.nodes.decode_to_video import LongreelDecodeToVideo
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.plan import LongreelPlan
from longreel.nodes.sampler import LongreelSampler
from tests import tiny_audio_video
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of

FPS = 24.0
SIZE = 64


@pytest.fixture
def decode(tmp_path: Path, monkeypatch) -> Iterator:
    """Run the node on LTX-2's tiny VAEs; gives the path of the file."""
    kept = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    monkeypatch.setattr(LongreelDecodeToVideo, "hidden", SimpleNamespace(prompt={}, extra_pnginfo={}), raising=False)

    def run(samples, **inputs):
        given = {"vae": tiny_audio_video.load().vae, "audio_vae": tiny_audio_video.load_audio_vae(), "fps": FPS}
        settings = {"filename_prefix": "a", "crf": 10, **given, **inputs}
        return Path(LongreelDecodeToVideo.execute(samples={"samples": samples}, **settings).args[0].get_stream_source())

    yield run
    folder_paths.set_output_directory(kept)


def story(seconds: float, *transitions: str):
    shots = tuple(Shot(f"scene {i}", seconds, transition=t) for i, t in enumerate(transitions))
    board = Storyboard(shots=shots, width=SIZE, height=SIZE, fps=FPS)
    return plan_timeline(board, ltxav.USUAL, segment_frames=13, overlap_frames=4)


def streams_in(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """(brightness of each frame, sound of the first channel, its rate) of a file."""
    with av.open(str(path)) as file:
        frames = np.array([frame.to_ndarray(format="gray").mean() for frame in file.decode(video=0)])
        file.seek(0)
        pieces = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        return frames, np.concatenate(pieces), file.streams.audio[0].rate


def brightness_of_latents(vae, samples, *_):
    """Pictures as bright as the first channel of their latent frame: 1 of the first one, 8 of each other."""
    bright = samples[0, 0].mean((1, 2)).repeat_interleave(8)[7:]
    yield bright[:, None, None, None].expand(-1, SIZE, SIZE, 3)


def sampled(timeline, marked: int) -> NestedTensor:
    """A latent that went through joint sampling under a mask that keeps all of it; one latent frame and its sound are
    others than the rest."""
    loaded = tiny_audio_video.load()
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    video, sound = video + 0.1, sound + 0.01
    first, last = sound_of(timeline).between(marked, marked + 1)
    video[:, :, marked], sound[:, :, first:last] = 0.9, 0.9
    latent = {
        "samples": NestedTensor([video, sound]),
        "noise_mask": NestedTensor([torch.zeros_like(video), torch.zeros_like(sound)]),
    }
    with torch.inference_mode():
        settings = sampling_of(encode_timeline(loaded.clip, timeline), torch.tensor([1.0, 0.0]), cfg=1.0)
        return joint.sample_timeline(loaded.model, timeline, latent, settings, blend="triangle")["samples"]


def tone_of_latents(latents: torch.Tensor) -> torch.Tensor:
    """[1, 2, t]: 1 kHz as loud as each latent, in the columns of 160 samples that the true networks make of it."""
    loud = latents.mean((1, 3)).repeat_interleave(4, 1)[:, 3:].repeat_interleave(160, 1)
    return (loud * torch.sin(torch.arange(loud.shape[1]) * torch.pi / 8))[:, None].expand(-1, 2, -1)


def test_a_click_and_a_flash_stay_within_a_frame_of_each_other_after_blends_and_a_cut_over_a_minute(
    decode, monkeypatch
):
    """The networks' own delay is measured in tests/hosts/video; here is the plan's, the windows' and the file's."""
    monkeypatch.setattr(decode_to_video, "decode_takes", brightness_of_latents)
    monkeypatch.setattr(tiny_audio_video.load_audio_vae().first_stage_model, "decode", tone_of_latents)
    timeline = story(15.0, "continue", "blend", "cut", "continue")
    marked = timeline.latent_frames - 12
    bright, sound, rate = streams_in(decode(sampled(timeline, marked), timeline=timeline))
    assert len(bright) == timeline.pixel_frames and abs(len(bright) / FPS - 60) < 0.5
    flash = int((bright > (bright.min() + bright.max()) / 2).argmax()) / FPS
    click = int((np.abs(sound) > 0.5).argmax()) / rate
    assert flash == timeline.facts.first_pixel_frame(marked) / FPS
    assert abs(click - flash) <= 1 / 25, (click, flash)
    assert abs(len(sound) / rate - len(bright) / FPS) <= 1024 / rate + 1e-6


def test_every_wire_matters_and_what_contradicts_itself_is_refused(decode):
    timeline = story(2.0, "continue", "cut")
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    sound = torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))
    both = NestedTensor([video, sound])
    with_cut, without, other = (
        streams_in(decode(both, timeline=timeline))[1],
        streams_in(decode(both))[1],
        streams_in(decode(NestedTensor([video, sound * 0.5]), timeline=timeline))[1],
    )
    assert np.abs(with_cut - other).max() > 0.01
    cut = round(timeline.facts.first_pixel_frame(timeline.take_starts[1]) / FPS * 16000)
    assert np.abs((with_cut - without)[: cut - 4096]).max() < 1e-3 < np.abs((with_cut - without)[cut:]).max()
    music = {"waveform": torch.zeros(1, 2, 16000), "sample_rate": 16000}
    assert np.abs(streams_in(decode(both, audio=music, audio_vae=None))[1]).max() < 1e-3
    wrong = {
        "audio and audio_vae are both wired, and a video has 1 sound": {"audio": music},
        "samples holds 2 latents in one, video and sound; wire core's Load LTXV Audio VAE": {"audio_vae": None},
        "wire fps from the Longreel Plan that it was made with, about 24": {"fps": 16.0},
        "does not decode the sound of LTX-2": {"audio_vae": tiny_audio_video.load().vae},
    }
    for message, inputs in wrong.items():
        with pytest.raises(ValueError, match=message):
            decode(both, **inputs)
    with pytest.raises(ValueError, match="samples holds a video without sound, and audio_vae is wired"):
        decode(video)


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_the_nodes_make_a_file_with_sound_from_a_storyboard(decode, mode):
    loaded = tiny_audio_video.load("ltx23")
    shots = (Shot("a dog", 1.5), Shot("a cat", 1.5, "cut"))
    board = Storyboard(shots=shots, width=SIZE, height=SIZE, fps=FPS)
    with torch.inference_mode():
        timeline, latent, report, fps, *_ = LongreelPlan.execute(loaded.model, board, 0, 0, 25, -1, 1, 2, True).args
        assert "LTX-2: 64 x 64 pixels" in report
        positive, negative = LongreelEncode.execute(loaded.clip, timeline).args
        sigmas = sigmas_of(loaded.model)
        sampler = comfy.samplers.sampler_object("euler")
        inputs = {
            "positive": positive,
            "negative": negative,
            "sampler": sampler,
            "sigmas": sigmas,
            "cfg": 2.0,
            "seed": 1,
        }
        out = LongreelSampler.execute(loaded.model, timeline, latent, "triangle", mode={"mode": mode}, **inputs).args[0]
    bright, sound, rate = streams_in(decode(out["samples"], timeline=timeline, fps=fps))
    assert len(bright) == timeline.pixel_frames and np.abs(sound).max() > 0.001
    assert abs(len(sound) / rate - len(bright) / FPS) <= 1024 / rate + 1e-6
