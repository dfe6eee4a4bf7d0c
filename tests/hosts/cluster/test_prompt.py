"""hosts/cluster/prompt.py and files.py: what a worker is asked to build its model from, and which files that needs."""

import hashlib

import pytest

import folder_paths

from longreel.hosts.cluster import files
from longreel.hosts.cluster.prompt import for_worker
from longreel.hosts.cluster.settings import ClusterError
from tests.nodes.graphs import change, node

PROMPT = {
    "model": node("UNETLoader", unet_name="wan.safetensors", weight_dtype="default"),
    "lora": node("LoraLoaderModelOnly", model=["model", 0], lora_name="style.safetensors", strength_model=0.5),
    "plan": node("LongreelPlan", model=["model", 0], storyboard=["board", 0]),
    "board": node("LongreelStoryboard", text="{}"),
    "cluster": node("LongreelCluster", address="", workers=2, keep_workers=True),
    "sample": node("LongreelSampler", model=["lora", 0], timeline=["plan", 0], cluster=["cluster", 0], seed=5),
    "decode": node("VAEDecode", samples=["sample", 0]),
    "other": node("SaveLatent", samples=["decode", 0]),
}


def test_a_worker_gets_what_makes_the_samplers_inputs_and_nothing_else():
    kept = {name: {**one, "inputs": dict(one["inputs"])} for name, one in PROMPT.items()}
    graph = for_worker(PROMPT, "sample")
    assert set(graph) == {"sample", "lora", "model", "plan", "board"}
    assert graph["sample"] == node("LongreelClusterTake", model=["lora", 0], timeline=["plan", 0], seed=5)
    assert all(graph[name] == PROMPT[name] for name in ("lora", "model", "plan", "board"))
    graph["lora"]["inputs"]["strength_model"] = 1.0
    assert kept == PROMPT


@pytest.mark.parametrize(("prompt", "node_id"), [(None, "sample"), (PROMPT, "7.0.0.1"), (PROMPT, "lora")])
def test_a_sampler_that_was_not_queued_is_refused(prompt, node_id):
    with pytest.raises(ClusterError, match=f"finds no Longreel Sampler {node_id} in the graph that was queued"):
        for_worker(prompt, node_id)


def test_a_trainer_in_front_of_the_sampler_is_refused():
    trained = {**PROMPT, "train": node("LongreelTrainTTT", model=["model", 0])}
    with pytest.raises(ClusterError, match=r"node train \(LongreelTrainTTT\) stands in front of Longreel Sampler"):
        for_worker(change(trained, "sample", model=["train", 0]), "sample")
    for_worker(trained, "sample")  # one that stands elsewhere does not matter


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A models folder and an input folder with one file each, and a file beside them."""
    (tmp_path / "loras").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "loras" / "style.safetensors").write_bytes(b"a lora")
    (tmp_path / "in" / "face.png").write_bytes(b"a face")
    (tmp_path / "secret.safetensors").write_bytes(b"nobody's")
    named = {"loras": ([str(tmp_path / "loras")], {".safetensors"})}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", named)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "in"))
    return tmp_path


def test_files_are_those_that_nodes_name_in_the_folders_of_their_kind(folders):
    graph = {
        "a": node("LoraLoaderModelOnly", lora_name="style.safetensors", text="a prompt\nstyle.safetensors"),
        "b": node("LoadImage", image="face.png", again="style.safetensors", none="gone.png", number=3),
        "c": node("LoadImage", image="../secret.safetensors", whole=str(folders / "secret.safetensors")),
    }
    assert files.named_in(graph) == [("loras", "style.safetensors"), ("input", "face.png")]


@pytest.mark.parametrize("kind", ["loras", "input", "custom_nodes", "/", ""])
@pytest.mark.parametrize("name", ["../secret.safetensors", "{}/secret.safetensors", "a/../../secret.safetensors"])
def test_no_name_leads_out_of_its_folder(folders, kind, name):
    named = kind, name.format(folders)
    assert files.path_of(named) is None
    assert files.sha256_of(named) is None and files.stat_of(named) is None


def test_a_hash_is_that_of_the_file_as_it_is_now(folders):
    named = "loras", "style.safetensors"
    first, about = files.sha256_of(named), files.stat_of(named)
    assert first == hashlib.sha256(b"a lora").hexdigest()
    (folders / "loras" / "style.safetensors").write_bytes(b"another")
    assert files.sha256_of(named) != first and files.stat_of(named) != about
