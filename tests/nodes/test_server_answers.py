"""ComfyUI answers while a prompt is posted, whatever the files and texts are that it speaks of.

Validation runs in ComfyUI's event loop: while a node looks at a file there, nobody is answered. Here every input that
takes a file, a list or any other text is posted at its worst, and GET /queue is asked meanwhile. Which inputs there are
is read from the running server, so that a new one without a worst case fails.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from longreel.engine.memory import files as memory_files
from longreel.engine.memory.cam import CAM, CAMConfig
from longreel.engine.storyboard.json_text import MAX_TEXT_CHARACTERS
from longreel.engine.ttt import files as ttt_files
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import MLP, TTTConfig
from tests.nodes.graphs import node, refusals

SECONDS = 0.5  # within which GET /queue is answered
TRIES = 3  # the best counts: other processes of a busy machine only add to the time
WORST = "worst_"
GIGABYTES = 6 * 2**30

pytestmark = pytest.mark.slow


# --- the files ---


def header_of(shapes: dict[str, tuple[int, ...]], metadata: dict[str, str]) -> tuple[bytes, int]:
    """A safetensors header for float32 tensors, and the bytes that follow it."""
    entries, at = {"__metadata__": metadata}, 0
    for name, shape in shapes.items():
        size = 4 * torch.Size(shape).numel()
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return json.dumps(entries).encode(), at


def sparse(path: Path, header: bytes, size: int) -> None:
    """A file whose body takes no room on the disk."""
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)


def write_memories(folder: Path) -> None:
    config = CAMConfig(16, (320, 640), 4096, 32)
    whole = CAM(config, (0,), device=torch.device("meta")).state_dict()
    layer = {name: tuple(value.shape) for name, value in whole.items() if name.startswith("injectors.0.")}
    rest = {name: tuple(value.shape) for name, value in whole.items() if name not in layer}

    def described(layers: list[int]) -> dict[str, str]:
        said = {"version": 1, "kind": "cam", "family": "Wan", "blocks": 10**6, "layers": layers, "title": ""}
        return {memory_files.KEY: json.dumps({**said, "config": asdict(config)})}

    def layers(count: int, shape: tuple[int, ...] | None = None) -> dict[str, tuple[int, ...]]:
        return rest | {
            name.replace(".0.", f".{number}.", 1): shape or own
            for number in range(count)
            for name, own in layer.items()
        }

    sparse(folder / f"{WORST}gigabytes.safetensors", *header_of(layers(30), described(list(range(30)))))
    sparse(folder / f"{WORST}many.safetensors", *header_of(layers(1200, (1,)), described(list(range(1200)))))
    sparse(folder / f"{WORST}named.safetensors", *header_of({"x": (2,)}, described(list(range(300_000)))))


def write_layers(folder: Path) -> None:
    config = TTTConfig(MLP, 4096, 64, 64, 0.1)
    block = {
        name: tuple(value.shape) for name, value in TTTBlock(config, device=torch.device("meta")).state_dict().items()
    }

    def described(count: int) -> dict[str, str]:
        said = {
            "version": 1, "family": "Wan", "kind": MLP, "width": config.width, "heads": config.heads, "blocks": 10**6,
            "layers": list(range(count)), "chunk": config.chunk, "base_rate": config.base_rate,
            "norm_eps": config.norm_eps, "rates": config.rates, "segment_latent_frames": 13, "title": "",
        }  # fmt: skip
        return {ttt_files.KEY: json.dumps(said)}

    def blocks(count: int, shape: tuple[int, ...] | None = None) -> dict[str, tuple[int, ...]]:
        return {f"blocks.{number}.{name}": shape or own for number in range(count) for name, own in block.items()}

    sparse(folder / f"{WORST}gigabytes.safetensors", *header_of(blocks(30), described(30)))
    sparse(folder / f"{WORST}many.safetensors", *header_of(blocks(1000, (1,)), described(1000)))
    published = {f"dit.transformer.layers.{n}.attention.{name}": (1,) for n in range(600) for name in block}
    sparse(folder / f"{WORST}published.safetensors", *header_of(published, {}))


def write_loras(folder: Path) -> None:
    big = {f"blocks.{n}.attn.q.lora_{half}.weight": (4096, 4096) for n in range(48) for half in "AB"}
    sparse(folder / f"{WORST}gigabytes.safetensors", *header_of(big, {}))
    many = {f"unknown.layer.{n}.lora_A.weight": (1, 1) for n in range(19_000)}
    sparse(folder / f"{WORST}many.safetensors", *header_of(many, {}))


def write_damaged(folder: Path) -> None:
    """What no loader can read: deep nesting, in the header and in its texts, a header of gigabytes, or none."""
    deep = "[" * 1_000_000
    sparse(folder / f"{WORST}deep_header.safetensors", deep.encode(), 0)
    keys = (memory_files.KEY, ttt_files.KEY, "ss_network_alpha", "lora_adapter_metadata")
    sparse(folder / f"{WORST}deep_text.safetensors", *header_of({"x": (2,)}, dict.fromkeys(keys, deep)))
    sparse(folder / f"{WORST}zeros.safetensors", b"", GIGABYTES)
    with open(folder / f"{WORST}header.safetensors", "wb") as file:
        file.write((GIGABYTES - 8).to_bytes(8, "little") + b'{"a":')
        file.truncate(GIGABYTES)


def write_storyboards(folder: Path) -> None:
    texts = {
        "anchors.json": STORYBOARDS["anchors"],
        "scenes.json": json.dumps([[{"text": "a"}] * 250] * 900),
        "scenes.jsonl": "\n".join([json.dumps([{"text": "a"}] * 250)] * 900),
        "wide.csv": "prompt,seconds," + "x," * (MAX_TEXT_CHARACTERS // 2 - 20),
        "rows.csv": "prompt,seconds\n" + "a,1\n" * (MAX_TEXT_CHARACTERS // 4 - 20),
        "cell.csv": 'prompt,seconds\n"' + "a" * (MAX_TEXT_CHARACTERS - 100),
    }
    for name, text in texts.items():
        (folder / f"{WORST}{name}").write_text(text, encoding="utf-8")
    with open(folder / f"{WORST}zeros.json", "wb") as file:
        file.truncate(GIGABYTES)


def write_clips(folder: Path) -> None:
    clips = folder / f"{WORST}clips"
    clips.mkdir()
    for number in range(2000):
        (clips / f"{number}.json").touch()


SHOT = {"prompt": "a", "seconds": 1}
ANCHORS = [{"image": "a.png", "at": 0}] * 64
STORYBOARDS = {
    "anchors": json.dumps({"longreel": 1, "shots": [{**SHOT, "anchors": ANCHORS}] * 1000}),
    "keys": json.dumps({"longreel": 1, "shots": [{**SHOT, **{f"promp{n}": 1 for n in range(200)}}] * 1000}),
    "shots": json.dumps({"longreel": 1, "shots": [SHOT] * 100_000}),
    "long": json.dumps({"longreel": 1, "shots": [{**SHOT, "prompt": "a " * 1900}] * 1000}),
    "deep": "[" * (MAX_TEXT_CHARACTERS - 1),
    "numbers": "[" + "1," * (MAX_TEXT_CHARACTERS // 2 - 10) + "1]",
    "lines": '{"text":"a"}\n' * (MAX_TEXT_CHARACTERS // 13 - 10),
}
TEXTS = {  # for every input that takes a text: ranges, lists, nesting, paths, long words
    "range": "1-10000000",
    "digits": "9" * 1_000_000,
    "list": "1," * 500_000,
    "ranges": "1-1000," * 150_000,
    "layers": "0-" + "9" * 5000,
    "deep": "[" * 1_000_000,
    "path": "a/" * 500_000,
    "signs": "日" * 300_000,
}
FILES = {  # every input that takes a file or a folder, and how many there are for it
    ("LongreelLoadMemory", "file"): 7,
    ("LongreelLoadTTT", "file"): 7,
    ("LongreelLoadAnchorLoRA", "file"): 6,
    ("LongreelLoadStoryboard", "file"): 7,
    ("LongreelTTTDataset", "clips.folder"): 1,
    ("LongreelTrainAnchorLoRA", "folder"): 1,
}


@pytest.fixture(scope="module")
def worst(server) -> Iterator[None]:
    base = Path(server.base)
    folders = [base / "models" / name for name in ("longreel_memory", "ttt", "loras")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_damaged(folder)
    for folder, write in zip(folders, (write_memories, write_layers, write_loras), strict=True):
        write(folder)
    write_storyboards(server.input_path)
    write_clips(server.input_path)
    yield
    for folder in (*folders, server.input_path):
        for path in folder.glob(f"{WORST}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- the inputs, as the server tells of them ---


def inputs_of(info: dict, prefix: str = "") -> Iterator[tuple[str, list, dict]]:
    """Yield each input of a node: its dotted name, what the server says of it, and the choices that open it."""
    for inputs in info.values():
        for name, entry in inputs.items():
            yield prefix + name, entry, {}
            if entry[0] == "COMFY_DYNAMICCOMBO_V3":
                for option in entry[1]["options"]:
                    for inner, inside, opened in inputs_of(option["inputs"], f"{prefix}{name}."):
                        yield inner, inside, {prefix + name: option["key"], **opened}


def files_of(entry: list) -> list[str]:
    """The files of this test that an input offers: none, unless it takes files."""
    options = entry[0] if isinstance(entry[0], list) else entry[1].get("options", []) if entry[0] == "COMBO" else []
    return [option for option in options if str(option).startswith(WORST)]


@pytest.fixture(scope="module")
def nodes(server, worst) -> dict[str, dict]:
    return {name: info for name, info in server.object_info().items() if name.startswith("Longreel")}


# --- the measurement ---


def slowest_answer(server, work: Callable[[], object]) -> float:
    """The seconds that GET /queue took at most while `work` was done."""
    slowest, done = [0.0], threading.Event()

    def ask() -> None:
        while not done.is_set():
            started = time.monotonic()
            server.get("/queue", timeout=120)
            slowest[0] = max(slowest[0], time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return slowest[0]


def check_answers(server, what: str, work: Callable[[], object]) -> None:
    took = slowest_answer(server, work)
    for _ in range(TRIES - 1):
        if took > SECONDS:
            took = min(took, slowest_answer(server, work))
    assert took <= SECONDS, f"{what}: GET /queue took {took:.1f} s"


def asked_alone(name: str, inputs: dict, output: int | None) -> dict:
    """A prompt with one node, refused for what else it misses, so that its values are looked at and nothing runs."""
    prompt = {"it": node(name, **inputs), "say": node("PreviewAny", source=["it", 0])}
    if output is not None:
        prompt["join"] = node("StringConcatenate", string_a=["it", output])
        prompt["say"] = node("PreviewAny", source=["join", 0])
    return prompt


def defaults(info: dict) -> dict:
    """The values of a node's own widgets, where it has some."""
    return {
        name: entry[1]["default"]
        for inputs in info.values()
        for name, entry in inputs.items()
        if len(entry) > 1 and "default" in entry[1]
    }


def test_every_input_that_takes_a_file_has_its_worst_cases(nodes):
    found = {
        (name, inner) for name, info in nodes.items() for inner, entry, _ in inputs_of(info["input"]) if files_of(entry)
    }
    assert found == set(FILES)


@pytest.mark.parametrize(("name", "input_name"), FILES, ids=lambda value: value)
def test_it_answers_while_files_are_looked_at(server, nodes, name, input_name):
    info = nodes[name]
    ((options, opened),) = [
        (files_of(entry), opened) for inner, entry, opened in inputs_of(info["input"]) if inner == input_name
    ]
    assert len(options) == FILES[name, input_name]
    texts = [place for place, kind in enumerate(info["output"]) if kind == "STRING"]
    for option in options:
        prompt = asked_alone(name, {**defaults(info["input"]), **opened, input_name: option}, next(iter(texts), None))
        check_answers(server, f"{name} with {option}", lambda prompt=prompt: refusals(server, prompt))
        if "zeros" in option or "deep_header" in option:
            assert any(option in line for line in refusals(server, prompt)), "the file was not looked at"


def test_it_answers_while_texts_are_looked_at(server, nodes):
    seen = 0
    for name, info in nodes.items():
        for inner, entry, opened in inputs_of(info["input"]):
            if entry[0] != "STRING":
                continue
            texts = STORYBOARDS if (name, inner) == ("LongreelStoryboard", "text") else TEXTS
            for what, text in texts.items():
                prompt = asked_alone(name, {**defaults(info["input"]), **opened, inner: text}, None)
                if name == "LongreelStoryboard":
                    prompt = asked_alone(name, {inner: text}, 1)
                check_answers(server, f"{name}.{inner} of {what}", lambda prompt=prompt: refusals(server, prompt))
            seen += 1
    assert seen > 15


@pytest.mark.parametrize("inputs", [{"text": STORYBOARDS["long"]}, {"file": f"{WORST}scenes.json", "video": 0}])
def test_it_answers_while_the_largest_storyboards_run(server, worst, inputs):
    name = "LongreelStoryboard" if "text" in inputs else "LongreelLoadStoryboard"
    prompt = {"it": node(name, **inputs), "say": node("PreviewAny", source=["it", 1])}
    check_answers(server, name, lambda: server.run(prompt))
