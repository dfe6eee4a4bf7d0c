"""engine/ttt/convert.py on checkpoint folders that torch wrote: what goes in comes out, and nothing in them is run."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import torch_save_to_dcp

from longreel.engine.ttt import convert as convert_ttt
from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import LINEAR, MLP
from longreel.engine.ttt.published import OF_BLOCK, OF_NETWORK
from longreel.engine.ttt.weights import to_published
from tests.engine.ttt_cases import KINDS, make_block

LAYERS = 2


def checkpoint(kind: str = MLP) -> dict[str, torch.Tensor]:
    """A whole network's, below `dit.`; core's tensors are one number each."""
    tensors = {f"dit.{start}weight": torch.full((1,), place) for place, start in enumerate(OF_NETWORK)}
    for number in range(LAYERS):
        layer = {
            f"seq_modeling_block.{name}": value
            for name, value in to_published(make_block(kind, seed=number).state_dict()).items()
        }
        layer |= {f"{start}bias": torch.full((1,), 100 * number + place) for place, start in enumerate(OF_BLOCK)}
        tensors |= {f"dit.layers.{number}.{name}": value for name, value in layer.items()}
    return tensors


def write(folder: Path, state: dict) -> Path:
    torch.save(state, folder / "state.pt")
    torch_save_to_dcp(folder / "state.pt", folder / "checkpoint")
    return folder / "checkpoint"


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_come_out_in_the_packs_format(tmp_path, kind):
    folder = write(tmp_path, checkpoint(kind))
    convert_ttt.convert(folder, tmp_path / "ttt.safetensors")
    ttt = load_ttt(tmp_path / "ttt.safetensors")
    assert (ttt.family, ttt.blocks, list(ttt.layers), ttt.config.kind) == ("CogVideoX", LAYERS, [0, 1], kind)
    for number, weights in ttt.layers.items():
        expected = make_block(kind, seed=number).state_dict()
        assert set(weights) == set(expected) and all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_training_runs_checkpoint_is_read_and_its_optimizer_left_alone(tmp_path):
    state = {
        "model": {name: value.bfloat16() for name, value in checkpoint().items()},
        "optimizer": {"state": {"model.dit.layers.0.mlp.layer1.weight.exp_avg": torch.zeros(3)}},
        "metadata": {"step": 250, "loss": [0.1, None]},
    }
    folder = write(tmp_path, state)
    convert_ttt.main(
        [str(folder), str(tmp_path / "ttt.safetensors"), "--transformer", str(tmp_path / "cog.safetensors")]
    )
    ttt = load_ttt(tmp_path / "ttt.safetensors")
    assert all(weight.dtype == torch.bfloat16 for block in ttt.layers.values() for weight in block.values())
    assert len(load_file(tmp_path / "cog.safetensors")) == len(OF_NETWORK) + LAYERS * len(OF_BLOCK)


def test_the_transformer_comes_out_under_cores_names(tmp_path):
    folder = write(tmp_path, checkpoint())
    convert_ttt.convert_transformer(folder, tmp_path / "cog.safetensors")
    expected = {f"{own}weight": place for place, own in enumerate(OF_NETWORK.values())}
    expected |= {
        f"blocks.{number}.{own}bias": 100 * number + place
        for number in range(LAYERS)
        for place, own in enumerate(OF_BLOCK.values())
    }
    assert {name: value.item() for name, value in load_file(tmp_path / "cog.safetensors").items()} == expected


# It leaves without the interpreter's own end, at which torch's threads of gloo have once been found alive (SIGABRT).
SHARDED = """
import os, sys, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
state = torch.load(f"{folder}/state.pt")
dcp.save({"model": {name: distribute_tensor(value, mesh, [Shard(0)]) for name, value in state.items()}},
         checkpoint_id=f"{folder}/checkpoint")
dist.barrier()
dist.destroy_process_group()
os._exit(0)
"""


@pytest.mark.slow
def test_tensors_that_two_processes_saved_in_pieces_are_put_together(tmp_path):
    torch.save(checkpoint(), tmp_path / "state.pt")
    runs = [
        subprocess.Popen([sys.executable, "-c", SHARDED, str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors.decode()
    assert len(list((tmp_path / "checkpoint").glob("*.distcp"))) == 2
    convert_ttt.convert(tmp_path / "checkpoint", tmp_path / "ttt.safetensors")
    weights, expected = load_ttt(tmp_path / "ttt.safetensors").layers[1], make_block(MLP, seed=1).state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_training_of_its_own_numbers_is_written_down(tmp_path, capsys):
    folder = write(tmp_path, checkpoint(LINEAR))
    convert_ttt.main([str(folder), str(tmp_path / "ttt.safetensors"), "--chunk", "32", "--base-rate", "0.5"])
    config = load_ttt(tmp_path / "ttt.safetensors").config
    assert (config.chunk, config.base_rate) == (32, 0.5)
    assert "TTT-linear for CogVideoX: 2 of 2 blocks" in capsys.readouterr().out


@pytest.mark.slow
def test_it_runs_from_the_command_line_without_comfyui(tmp_path):
    folder = write(tmp_path, checkpoint())
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['comfy'] = None; import runpy; "
        "runpy.run_module('longreel.engine.ttt.convert', run_name='__main__', alter_sys=True)",
        str(folder),
        str(tmp_path / "ttt.safetensors"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert load_ttt(tmp_path / "ttt.safetensors").blocks == LAYERS


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


def test_nothing_in_a_description_is_run(tmp_path, capsys):
    folder = write(tmp_path, checkpoint())
    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SystemExit, match="asks for builtins.print, and a checkpoint's description needs none of it"):
        convert_ttt.main([str(folder), str(tmp_path / "ttt.safetensors")])
    assert "this ran" not in capsys.readouterr().out and not (tmp_path / "ttt.safetensors").exists()


def without_layer_1(state: dict) -> dict:
    return {name: value for name, value in state.items() if ".1.seq_modeling_block.ssm" not in name}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            lambda: {name: value for name, value in checkpoint().items() if "ssm" not in name},
            "no tensor of .* is TTT's",
        ),
        (
            lambda: {name: value for name, value in checkpoint().items() if "gating" not in name},
            "block 0: 4 of 22 TTT weights are missing, first backward_text",
        ),
        (lambda: without_layer_1(checkpoint()), "block 1: none of the|block 1: 18 of 22 TTT weights are missing"),
        (lambda: {"x": torch.zeros(1)}, "no tensor of .* is TTT's"),
    ],
    ids=["no layers", "no gates", "half a layer", "something else"],
)
def test_a_folder_that_holds_something_else_is_refused(tmp_path, state, says):
    folder = write(tmp_path, state())
    with pytest.raises(ValueError, match=says):
        convert_ttt.convert(folder, tmp_path / "ttt.safetensors")
    assert not (tmp_path / "ttt.safetensors").exists()


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no .metadata; give the folder that holds .metadata and \*.distcp"):
        convert_ttt.convert(tmp_path, tmp_path / "ttt.safetensors")
    folder = write(tmp_path, checkpoint())
    description = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(description[:100])
    with pytest.raises(ValueError, match="has 100 bytes that are no description of a checkpoint"):
        convert_ttt.convert(folder, tmp_path / "ttt.safetensors")
    (folder / ".metadata").write_bytes(description)
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(ValueError, match="1 files of .* are missing, first __0_0.distcp; copy the folder again"):
        convert_ttt.convert(folder, tmp_path / "ttt.safetensors")


@pytest.mark.parametrize("name", ["ttt.pt", "there.safetensors"])
def test_it_writes_new_safetensors_files_only(tmp_path, capsys, name):
    (tmp_path / "there.safetensors").write_bytes(b"old")
    with pytest.raises(SystemExit):
        convert_ttt.main([str(tmp_path), str(tmp_path / name)])
    assert "give a new name that ends in .safetensors" in capsys.readouterr().err
    assert (tmp_path / "there.safetensors").read_bytes() == b"old"
