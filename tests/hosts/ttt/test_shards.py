"""hosts/ttt/student.py with training/shards.py: two processes divide a real network, frozen weights too."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from longreel.engine.sampling.denoising import FlowMatching, loss_per_video
from longreel.engine.ttt.files import load_ttt
from longreel.hosts.training.encoder import TTTEncoder
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.student import ALL, LAYERS, OTHERS, PROJECTIONS, TTT, TTTStudent
from longreel.training.optimise import Optimiser
from longreel.training.parallel import ALONE, World
from longreel.training.shards import Shards, local_bytes
from tests.hosts.ttt_cases import layers
from tests.tiny_models import make_tiny_models
from tests.training.two_processes import run_together

FAMILIES = ("wan21", "cogvideox10", "cogvideox15", "hunyuan_video", "ltxv")
WINDOWS = ((0, 4), (2, 6))
STORIES = (["a fox", "two words"], ["a", "one story whose texts are of other lengths"])
RATES = {TTT: 1e-3, OTHERS: 1e-3}
TOGETHER = """
import sys
from pathlib import Path

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import torch

torch.set_num_threads(1)

from longreel.training.parallel import world_of_torchrun
from tests.hosts.ttt.test_shards import FAMILIES, train

with world_of_torchrun() as world:
    for name in FAMILIES:
        train(name, Path(sys.argv[1]), world)
"""


def train(name: str, folder, world: World) -> None:
    """Three stages with four videos, whose texts have two lengths: leaves what the optimiser knows at the end of each,
    this process's part of it, and the file of the layers. The last one, which trains all there is, has a second step,
    which goes on from moments; a stage begins without any."""
    loaded = make_tiny_models()[name].load()
    with torch.inference_mode():
        student = TTTStudent(ttt.apply(loaded.model, layers(loaded.model, chunk=32)), torch.float32)
    shards = None
    if world.size > 1:
        everything = student.parameters_of(ALL)
        weights = [
            *student.network.parameters(),
            *(one for layer in student.layers.values() for one in layer.parameters()),
        ]
        before = local_bytes(weights)
        shards = Shards(student.units(), everything[TTT] | everything[OTHERS], world)
        weights = [
            *student.network.parameters(),
            *(one for layer in student.layers.values() for one in layer.parameters()),
        ]
        print(f"{name} {local_bytes(weights)} of {before} bytes of weights", flush=True)
        assert local_bytes(weights) < 0.6 * before
    encoder = TTTEncoder(loaded.model, loaded.clip, loaded.vae, 40)
    heard = [
        {key: torch.stack([text[key] for text in texts]) for key in texts[0]}
        for texts in ([encoder.encode_text(prompt) for prompt in story] for story in STORIES)
    ]
    side, generator = 64 // student.facts.spatial_stride, torch.Generator().manual_seed(0)
    clean, noise = (
        torch.randn((4, student.facts.latent_channels, 6, side, side), generator=generator) for _ in range(2)
    )
    flow = isinstance(student.objective, FlowMatching)
    levels = torch.tensor([0.3, 0.5, 0.7, 0.9]) if flow else torch.tensor([300.0, 500.0, 700.0, 900.0])
    places = list(world.share(4))
    found, cut, before = {}, {}, None
    for adapter, recompute, steps in ((PROJECTIONS, True, 1), (LAYERS, False, 1), (ALL, True, 2)):
        student.checkpoint(1, recompute)
        optimiser = Optimiser(student.parameters_of(adapter), clip_norm=1.0, ema=0.9)
        if before is not None:
            optimiser.carry_over(before)
        for _ in range(steps):
            if shards:
                shards.begin()
            for chosen in (places[:2], places[2:]):  # a process of two has no second part
                if chosen:
                    conditioning = {key: torch.stack([heard[place % 2][key] for place in chosen]) for key in heard[0]}
                    noised = student.objective.noise(clean[chosen], noise[chosen], levels[chosen])
                    said = student.predict(noised, levels[chosen], conditioning, WINDOWS)
                    losses = loss_per_video(
                        said, student.objective.target(clean[chosen], noise[chosen], levels[chosen])
                    )
                    (losses.sum() / len(places)).backward()
                    optimiser.gather()
            if shards:
                for unused in shards.unused(optimiser.parameters):
                    optimiser.masters[unused].grad = None
            norm = optimiser.step(RATES)
        before = optimiser.state()
        found |= {f"{adapter}.norm": torch.tensor(norm)}
        for key, value in before.items():  # not put together here, tensor by tensor: that takes a quarter of the time
            if isinstance(value, DTensor):
                cut[f"{adapter}.{key}"] = str(value.placements[0].dim)
            found[f"{adapter}.{key}"] = (value.to_local() if isinstance(value, DTensor) else value).clone()
        if shards is None:
            student.save(folder / f"{name}.ttt.safetensors", 4, "together")
            continue
        with shards.gathered():
            if world.speaks:
                student.save(folder / f"{name}.ttt.safetensors", 4, "together")
    save_file(found, folder / f"{name}.{world.rank}.safetensors", cut)


def put_together(folder, name: str) -> dict[str, torch.Tensor]:
    """What the optimisers of two processes knew, of their parts."""
    with (
        safe_open(folder / f"{name}.0.safetensors", "pt") as one,
        safe_open(folder / f"{name}.1.safetensors", "pt") as other,
    ):
        cut = one.metadata()
        assert cut == other.metadata() and one.keys() == other.keys() and len(cut) > len(one.keys()) / 2
        found = {}
        for key in one.keys():  # noqa: SIM118  it is no dict
            parts = one.get_tensor(key), other.get_tensor(key)
            assert key in cut or torch.equal(*parts)
            found[key] = torch.cat(parts, int(cut[key])) if key in cut else parts[0]
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of what two processes trained."""
    folder = tmp_path_factory.mktemp("together")
    run_together(TOGETHER, folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torch for Windows has no Gloo store that torchrun could use")
@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_that_divide_a_network_train_what_one_does(together, tmp_path, name):
    train(name, tmp_path, ALONE)
    found, expected = put_together(together, name), load_file(tmp_path / f"{name}.0.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # AdamW makes a whole step of the smallest gradient: weights may differ by a tenth of one, moments by nothing.
        atol = 1e-4 if key.split(".")[1] in ("weight", "average") else 1e-6
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=atol, msg=lambda text, key=key: f"{key}: {text}")
    one, other = (load_ttt(folder / f"{name}.ttt.safetensors") for folder in (together, tmp_path))
    assert one.layers.keys() == other.layers.keys()
    for number, layer in other.layers.items():
        for key, value in layer.items():
            torch.testing.assert_close(one.layers[number][key], value, rtol=1e-3, atol=1e-4)
