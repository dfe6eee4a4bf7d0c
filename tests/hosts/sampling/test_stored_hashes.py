"""What chunks on disk depend on is hashed as it was: run folders of an earlier Longreel go on, whatever is renamed.

The hashes below, of which the first 8 digits are compared, were recorded before classes and fields were renamed. Only
values that no machine computes differently go into them: prompts, pictures and the memories' weights here are plain
numbers. Weights of the tiny models are drawn and ComfyUI's samplers are ComfyUI's own, so "the model" and "the sampler"
are compared by what Longreel has put into them.
"""

import json
from dataclasses import replace

import pytest
import torch

from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.engine.runs.chunk_file import read_chunk
from longreel.engine.runs.content_hash import content_hash
from longreel.engine.runs.folder import open_run
from longreel.hosts import block_count, facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.memory import apm, cam, long_memory, short_memory
from longreel.hosts.sampling import identity
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from longreel.hosts.ttt import apply as ttt
from tests.hosts import ttt_cases
from tests.hosts.rollout_cases import rolled, story

MODEL = "wan21"
IN_BOTH = {  # by name of the dependency, for each chunk
    "the prompt": "d2460ea6 d2460ea6 f7ffb064 9d12107c 9d12107c 9d12107c b5158a1c b5158a1c",
    "the negative prompt": ("bd7e27e5 bd7e27e5 5f020b43 d2460ea6 d2460ea6 d2460ea6 aff4102c aff4102c"),
    "the seed": "0a2336c2 09524c88 a2c2c645 f1356344 9e32e278 c4f7349b 9e32e278 c4f7349b",
    "the strength": "c2c256ef c2c256ef c975ce59 f9d364fe f9d364fe f9d364fe c2c256ef c2c256ef",
    "the frames": "a6a1667e a2a0ddd9 88ac14cf a2a0ddd9 a2a0ddd9 9406e908 a6a1667e a2a0ddd9",
    "the latent": "f8f104d0 f8f104d0 f8f104d0 c792d1fc 26b845de 47736aa8 f8f104d0 f8f104d0",
    "cfg": " ".join(["a738dac0"] * 8),
    "the low-noise model": " ".join(["05521ff1"] * 8),
}
NOTHING = "241877c1"
WITH_MEMORIES = {
    "the anchors": " ".join([NOTHING] * 8),
    "the memory": " ".join(["da509019"] * 8),
    "the remembered prompts": " ".join(["94bee9fa"] * 3 + ["356faad7"] * 5),
}
WITH_ANCHORS = {
    "the anchors": " ".join(["158cb319", "433a0501", *[NOTHING] * 6]),
    "the memory": " ".join([NOTHING] * 8),
    "the remembered prompts": " ".join(["94bee9fa"] * 8),
}
NAMES = [
    "the prompt",
    "the negative prompt",
    "the seed",
    "the strength",
    "the frames",
    "the latent",
    "the anchors",
    "cfg",
    "the sampler",
    "the memory",
    "the model",
    "the low-noise model",
    "the remembered prompts",
    "the chunk before",
]
READ_WITH_MEMORIES = [[], [0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 2, 3, 4], [0], [0, 6]]  # numbers of chunks
READ_WITH_ANCHORS = [[], [0], [1], [2], [3], [3, 4], [], [6]]
PLAN = {
    "segment_frames": 5,
    "chunks": [
        {"number": 0, "start": 0, "end": 5, "known": 0, "mix": [[0, 1.0]], "shot": 0, "piece": 0, "take": 0},
        {"number": 1, "start": 3, "end": 8, "known": 2, "mix": [[0, 1.0]], "shot": 0, "piece": 1, "take": 0},
        {"number": 2, "start": 5, "end": 10, "known": 3, "mix": [[0, 0.5], [1, 0.5]], "shot": 1, "piece": 0, "take": 0},
        {"number": 3, "start": 8, "end": 13, "known": 2, "mix": [[1, 1.0]], "shot": 1, "piece": 1, "take": 0},
        {"number": 4, "start": 11, "end": 16, "known": 2, "mix": [[1, 1.0]], "shot": 1, "piece": 2, "take": 0},
        {"number": 5, "start": 12, "end": 17, "known": 4, "mix": [[1, 1.0]], "shot": 1, "piece": 3, "take": 0},
        {"number": 6, "start": 17, "end": 22, "known": 0, "mix": [[2, 1.0]], "shot": 2, "piece": 0, "take": 1},
        {"number": 7, "start": 20, "end": 25, "known": 2, "mix": [[2, 1.0]], "shot": 2, "piece": 1, "take": 1},
    ],
}


def spread(shape, scale: float = 1 / 64) -> torch.Tensor:
    """Numbers that are exact in every dtype and on every machine."""
    count = torch.Size(shape).numel()
    return (torch.arange(count) % 16 - 8).float().reshape(shape) * scale


def plain_weights(memory):
    return replace(memory, weights={name: spread(value.shape) for name, value in memory.weights.items()})


def with_memories(model):
    """A clone that carries every memory that rollout takes."""
    layers = frozenset(range(block_count(model)))
    model = short_memory.attach(model, short_memory.KnownFrames(short_memory.CLEAN, 2, 0.875, 0.25))
    model = short_memory.attach(model, short_memory.KeysAndValues(3, 0.75, 0.5, layers))
    long = long_memory.LongMemory(long_memory.VIDEO, 2, long_memory.BEFORE, 0.5, layers, 0.25)
    model = patching.attach(model, long)
    model = cam.attach(model, plain_weights(cam.trained(cam.with_cam(model, None))), 0.5)
    return apm.attach(model, plain_weights(apm.trained(apm.with_apm(model, None, text_tokens=64))), apm.OF_TAKE, 0.5)


def with_anchors(model):
    """A clone with a clean anchor at the video's second latent frame, and an inpainted one further on."""
    facts = facts_of(model)
    anchors = [
        place_anchor(facts.first_pixel_frame(frame) / 16, 16.0, facts, mode, strength)
        for frame, mode, strength in ((1, CLEAN, 1.0), (6, INPAINT, 0.5))
    ]
    picture = spread((1, facts.latent_channels, 1, 8, 8))
    return anchor_frame.attach(model, [anchor_frame.Anchored(anchor, picture) for anchor in anchors])


def conds(model, timeline) -> tuple[list, list]:
    width = model.model.diffusion_model.text_embedding[0].in_features
    return tuple(
        [
            [
                spread((1, 8, width), scale * (planned.index + 1)),
                {"longreel_shot": planned.index, "longreel_role": role},
            ]
            for planned in timeline.shots
        ]
        for role, scale in (("positive", 1 / 16), ("negative", 1 / 32))
    )


def run_of(tiny, path, prepare):
    """(key of each chunk, plan.json) of a run of the tiny model; `prepare(model)` gives the one that samples."""
    loaded = tiny(MODEL)
    timeline = story(loaded.model, ("continue", "blend", "cut"), overlap=2, seed=11, strength=0.75)
    start = spread((1, 16, timeline.latent_frames, 8, 8))
    mask = torch.ones(1, 1, timeline.latent_frames, 8, 8)
    mask[:, :, 12:14, :4] = 0.5
    with open_run(path) as run:
        rolled(
            loaded,
            timeline,
            prepare(loaded.model),
            {"samples": start, "noise_mask": mask},
            conds(loaded.model, timeline),
            sigmas=torch.tensor([0.75, 0.0]),
            run=run,
        )
    files = sorted(path.glob("chunk_*.safetensors"))
    keys = [read_chunk(file).key for file in files]
    return keys, json.loads((path / "plan.json").read_text())


def with_ttt(model):
    """A clone that carries TTT layers."""
    layers = ttt_cases.layers(model)
    blocks = {
        number: {name: spread(weight.shape) for name, weight in block.items()}
        for number, block in layers.layers.items()
    }
    return ttt.apply(model, replace(layers, layers=blocks))


def short(value: object) -> str:
    return content_hash(identity.plain(value))[:8]


@pytest.mark.parametrize(
    ("prepare", "expected", "read"),
    [(with_memories, WITH_MEMORIES, READ_WITH_MEMORIES), (with_anchors, WITH_ANCHORS, READ_WITH_ANCHORS)],
)
def test_a_chunk_depends_on_what_it_depended_on(tiny, tmp_path, prepare, expected, read):
    keys, plan = run_of(tiny, tmp_path, prepare)
    assert all(sorted(key.dependencies) == sorted(NAMES) for key in keys)
    found = {name: " ".join(key.dependencies[name][:8] for key in keys) for name in NAMES}
    assert {name: found[name] for name in IN_BOTH | expected} == IN_BOTH | expected
    before = [content_hash([keys[number].hash for number in numbers]) for numbers in read]
    assert [key.dependencies["the chunk before"] for key in keys] == before
    assert plan == PLAN


@pytest.mark.parametrize(
    ("prepare", "expected"), [(with_memories, "5fd5965e"), (with_anchors, "2eecac3f"), (with_ttt, "ef6938d7")]
)
def test_what_longreel_puts_on_a_model_is_hashed_as_it_was(tiny, prepare, expected):
    assert short(prepare(tiny(MODEL).model).model_options["transformer_options"]) == expected


def test_longreels_own_sampler_is_hashed_as_it_was():
    assert short(AlphaSpaceSampler("ddim", 0.0)) == "fee85a2a"
