"""The sound of shots in a running ComfyUI: files of the input folder, an audio encoder in Longreel Encode, Wan S2V."""

import shutil
import wave
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.storyboard.carried import Audio
from tests import tiny_variants
from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, latent, node, sampled
from tests.nodes.test_rollout import rollout
from tests.tiny_nodes.tiny_hearing import RATE

SPEECH = Audio("shot_speech.wav")
BOARD = Storyboard(
    (Shot("a keeper speaks", 1.0, audio=SPEECH), Shot("a keeper sings", 1.0, audio=SPEECH)), width=64, height=64
)


@pytest.fixture(scope="module", autouse=True)
def files(server):
    """Two seconds of noise in the input folder, and the tiny S2V among the models, of the running ComfyUI."""
    name = "variant_s2v.safetensors"
    network = Path(server.base) / "models" / "diffusion_models" / name
    shutil.copyfile(tiny_variants.write("s2v") / "diffusion_models" / name, network)
    path = server.input_path / SPEECH.file
    noise = torch.randint(-9999, 9999, (2 * RATE,), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(noise.numpy().tobytes())
    yield path
    path.unlink()
    network.unlink()


@pytest.fixture(scope="module")
def base(tiny_models):
    prompt = rollout(change(sampled(tiny_models["wan21"], EULER), "model", unet_name="variant_s2v.safetensors"))
    hearing = {**prompt, "hearing": node("TinyAudioEncoder", network="s2v")}
    return with_sound(change(hearing, "encode", audio_encoder=["hearing", 0]), SPEECH, SPEECH)


def with_sound(prompt, *sounds: Audio | None):
    shots = [replace(shot, audio=sound) for shot, sound in zip(BOARD.shots, sounds, strict=True)]
    return change(prompt, "board", text=replace(BOARD, shots=tuple(shots)).to_json())


def test_the_sound_and_its_offset_change_the_result_of_their_shot_and_what_follows(server, base):
    silent, whole, later = (
        latent(server, with_sound(base, SPEECH, second)) for second in (None, SPEECH, replace(SPEECH, offset=0.25))
    )
    assert not torch.equal(silent, whole) and not torch.equal(whole, later)
    assert torch.equal(silent[:, :, 0], whole[:, :, 0]), "the first chunk hears the first shot alone"
    assert not torch.equal(latent(server, with_sound(base, None, None))[:, :, 0], whole[:, :, 0])


def test_what_cannot_be_heard_is_refused_with_its_shot(server, base, files):
    unwired = {**base, "encode": node("LongreelEncode", clip=["clip", 0], timeline=["plan", 0])}
    deaf = change(base, "model", unet_name="tiny_wan21.safetensors")
    for prompt, said in (
        (unwired, "shot 1: audio shot_speech.wav is to be heard, and no audio encoder is wired"),
        (change(base, "hearing", network="humo"), "shot 1: audio shot_speech.wav was encoded by whisper large v3"),
        (deaf, "shot 1: audio shot_speech.wav is for Wan 2.2 S2V and HuMo, and this model, WAN21, hears nothing"),
        (with_sound(base, None, Audio("none.wav")), "shot 2, audio: file is 'none.wav', no file in "),
    ):
        with pytest.raises(ComfyError, match=said):
            server.run(prompt)
