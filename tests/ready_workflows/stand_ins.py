"""Tiny files under the names of the ready workflows' models, which core's own loaders take for the real ones.

Networks and VAEs are those of tests/tiny_models.py. Core fixes the sizes of text encoders; node pack `tiny_sizes`,
beside this file, has core build them small, and a marker tensor has core recognise the file. What the workflows show
with them is that every node, wire and loader fits, never quality.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import wave
from collections.abc import Mapping
from pathlib import Path

from tests import tiny_image_to_video, tiny_models, tiny_variants
from tests.comfy_inprocess import import_comfyui
from tests.ready_workflows import files
from tests.ready_workflows.files import ModelFile

FOLDER = tiny_models.DEFAULT_FOLDER.parent / "stand_ins"
TINY_SIZES = Path(__file__).parent / "tiny_sizes"
NETWORKS: dict[ModelFile, str] = {
    files.T2V_HIGH: "wan22_14b_high",
    files.T2V_LOW: "wan22_14b_low",
    files.WAN_21_SMALL: "wan21",
    files.WAN_22_SMALL: "wan22_5b",
    files.COGVIDEOX: "cogvideox15",
    files.HUNYUAN_15: "hunyuan_video15",
}
VAES: dict[ModelFile, str] = {
    files.WAN_VAE: "tiny_wan21_vae",
    files.WAN_22_VAE: "tiny_taehv48",
    files.COGVIDEOX_VAE: "tiny_wan21_vae",
    files.HUNYUAN_15_VAE: "tiny_taehv32",
}
PICTURE_NETWORKS: dict[ModelFile, str] = {files.I2V_HIGH: "wan22_i2v_high", files.I2V_LOW: "wan22_i2v_low"}
VARIANTS: dict[ModelFile, str] = {files.S2V: "s2v", files.VACE: "vace"}
LORAS = {
    files.T2V_HIGH_4_STEPS: files.T2V_HIGH,
    files.T2V_LOW_4_STEPS: files.T2V_LOW,
    files.I2V_HIGH_4_STEPS: files.I2V_HIGH,
    files.I2V_LOW_4_STEPS: files.I2V_LOW,
    files.VACE_4_STEPS: files.VACE,
}
T5_WIDE = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"  # by its rows core tells T5 XXL
T5_ROWS, RANK = 10240, 2
SOUND_RATE = 16000  # samples a second


def for_comfyui() -> dict[str, Mapping[str, Path]]:
    """Return what a ComfyProcess takes to load the stand-ins."""
    return {"packs": {"tiny_sizes": TINY_SIZES}, "model_folders": model_folders()}


def model_folders() -> Mapping[str, Path]:
    """Return where the stand-ins lie, by ComfyUI's names of its model folders; they are written where they are not."""
    ready = FOLDER / _content_key()
    if not ready.is_dir():
        ready.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=ready.parent, prefix="unfinished-"))
        _write(unfinished)
        try:
            os.rename(unfinished, ready)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
    return {folder.name: folder for folder in ready.iterdir()}


def _content_key() -> str:
    """Changes with what the stand-ins are made by."""
    sources = (Path(__file__), Path(tiny_image_to_video.__file__), Path(tiny_variants.__file__))
    digest = hashlib.blake2s(tiny_models.content_key().encode(), digest_size=8)
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def write_inputs(folder: Path) -> None:
    """Put what the workflows read from ComfyUI's input folder there; ComfyUI comes with the picture."""
    import numpy as np
    import torch
    from PIL import Image

    from longreel.engine.measure.video_file import write_video

    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.linear_gradient("L").convert("RGB")
    picture.save(folder / "example.png")
    tone = [round(9000 * math.sin(sample / 20)) for sample in range(2 * SOUND_RATE)]
    with wave.open(str(folder / "speech.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SOUND_RATE)
        sound.writeframes(np.array(tone, dtype="<i2").tobytes())
    small = picture.resize((64, 64))
    frames = (torch.from_numpy(np.array(small.rotate(3 * turn))) / 255 for turn in range(40))
    write_video((frame[None] for frame in frames), folder, "control", 1, fps=16, crf=19)
    os.replace(folder / "control_00001_.mp4", folder / "control.mp4")


def _write(folder: Path) -> None:
    tiny = tiny_models.make_tiny_models()
    some = next(iter(tiny.values())).folder
    for file, name in NETWORKS.items():
        _copy(tiny[name].unet_path, folder, file)
    for file, name in VAES.items():
        _copy(some / "vae" / f"{name}.safetensors", folder, file)
    import_comfyui()
    from safetensors.torch import load_file, save_file

    for file, family in ((files.UMT5, "wan"), (files.T5, "ltxv")):
        save_file(_t5(family), _place(folder, file))
    for file, state in ((files.QWEN, _qwen()), (files.BYT5, _byt5())):
        save_file(state, _place(folder, file))
    _write_hearing(_place(folder, files.WAV2VEC2))
    for file, name in PICTURE_NETWORKS.items():
        _save(tiny_image_to_video.VARIANTS[name].build(), folder, file)
    for file, name in VARIANTS.items():
        _save(tiny_variants.VARIANTS[name].unet(), folder, file)
    for seed, (file, network) in enumerate(LORAS.items()):
        save_file(_lora(load_file(_place(folder, network)), seed), _place(folder, file))
    network, vae = load_file(tiny["ltxv"].unet_path), load_file(tiny["ltxv"].vae_path)
    whole = {f"model.diffusion_model.{key}": value for key, value in network.items()}
    whole |= {f"vae.{key}": value for key, value in vae.items()}
    configs = [tiny_models.MODELS["ltxv"].unet().config, tiny_models.VAES["tiny_ltxv_vae"]().config]
    save_file(whole, _place(folder, files.LTXV), metadata={"config": json.dumps(configs[0] | configs[1])})


def _place(folder: Path, file: ModelFile) -> Path:
    path = folder / file.directory / file.name
    path.parent.mkdir(exist_ok=True)
    return path


def _save(checkpoint: tiny_models.Checkpoint, folder: Path, file: ModelFile) -> None:
    from safetensors.torch import save_file

    metadata = {"config": json.dumps(checkpoint.config)} if checkpoint.config else None
    save_file(tiny_models.draw_weights(checkpoint), _place(folder, file), metadata=metadata)


def _copy(source: Path, folder: Path, file: ModelFile) -> None:
    shutil.copyfile(source, _place(folder, file))


def _t5(family: str) -> dict:
    """Return the state dict of a small T5, and its vocabulary where it is UMT5."""
    import torch

    from tests.ready_workflows.sizes import model_options
    from tests.tiny_text_encoders import ENCODERS, draw, spiece_model

    encoder, _ = ENCODERS[family]
    name = "umt5xxl" if family == "wan" else "t5xxl"
    state = draw(getattr(encoder()(model_options=model_options()), name).transformer, seed=0).state_dict()
    return {**state, T5_WIDE: torch.zeros(T5_ROWS, 1), **({"spiece_model": spiece_model()} if family == "wan" else {})}


def _qwen() -> dict:
    """Return the state dict of a small Qwen."""
    from tests.ready_workflows.sizes import model_options, without_eyes
    from tests.tiny_text_encoders import ENCODERS, draw

    with without_eyes():
        encoder = ENCODERS["hunyuan_video_15"][0]()(model_options=model_options())
    return draw(encoder.qwen25_7b.transformer, seed=1).state_dict()


def _byt5() -> dict:
    """Return the state dict of a small ByT5, which reads the text that a prompt quotes."""
    from tests.ready_workflows.sizes import model_options, without_eyes
    from tests.tiny_text_encoders import ENCODERS, draw

    with without_eyes():
        encoder = ENCODERS["hunyuan_video_15"][0]()(model_options=model_options())
    return draw(encoder.byt5_small.transformer, seed=2).state_dict()


def _write_hearing(path: Path) -> None:
    """Write wav2vec2 of core's fixed, large size as a file of zeros, which takes no room on a disk; but for a weight
    whose direction counts, and zeros have none."""
    import torch

    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    sizes = {"embed_dim": 1024, "num_heads": 16, "num_layers": 24, "conv_norm": True, "conv_bias": True}
    with torch.device("meta"):
        network = Wav2Vec2Model(
            **sizes, do_normalize=True, do_stable_layer_norm=True, device="meta", operations=torch.nn
        )
    header, offset = {}, 0
    for key, value in network.state_dict().items():
        end = offset + 2 * value.numel()
        header[key] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
        for key in (key for key in header if "weight_v" in key or "original1" in key):
            start, end = header[key]["data_offsets"]
            file.seek(8 + len(text) + start)
            file.write(torch.ones((end - start) // 2, dtype=torch.float16).numpy().tobytes())


def _lora(network: dict, seed: int) -> dict:
    """Return a LoRA for the attention of a network, as the 4-step LoRAs have it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, weight in network.items():
        if key.endswith("attn.q.weight"):
            stem = f"diffusion_model.{key.removesuffix('.weight')}"
            state[f"{stem}.lora_A.weight"] = torch.randn(RANK, weight.shape[1], generator=generator) * 0.1
            state[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], RANK, generator=generator) * 0.1
    return state
