"""One take of a rollout, made where the others are not: to the bit, or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longreel.engine.runs.chunk_file import chunk_bytes, parse_chunk
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot
from longreel.hosts.attention import patching
from longreel.hosts.memory import long_memory
from longreel.hosts.sampling import rollout, rollout_take
from longreel.hosts.sampling.rollout_locks import locked_frames
from longreel.hosts.sampling.rollout_take import TakeOrder, sample_take
from tests.hosts.rollout_cases import sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

CUTS = ("continue", "continue", "cut", "cut")


def remembering(model, anchor):
    feature = long_memory.LongMemory(
        anchor=anchor, frames=1, placement="before", strength=1.0, layers=frozenset({0, 1}), statistics=0.5
    )
    return patching.attach(model, feature)


def asked(loaded, timeline, model, seed=7):
    latent = {"samples": empty(timeline)}
    return (
        model,
        timeline,
        latent,
        sampling_of(encode(loaded, timeline), sigmas_of(model), sampler_for(model), 3.0, seed),
    )


def orders_of(task, kept, made):
    """An order for each take: all of it is wanted, and the video's first chunk is given to the others."""
    return [
        TakeOrder(
            take=take,
            chunks=len(task.chunks),
            hashes=dict(kept.hashes),
            wanted={c.number: dict(kept.keys[c.number].dependencies) for c in task.chunks if c.take == take},
            given={0: made[0]} if take and task.reads_video else {},
            kept={},
        )
        for take in range(len(task.timeline.take_starts))
    ]


def run_of(folder, *inputs):
    """A whole rollout in a run folder: (latent, its files by name, an order for each take)."""
    seen = {}

    def elsewhere(task, kept):
        for chunk in task.chunks:
            assert kept.find(chunk) is None
            kept.expect(chunk)
        seen.update(task=task, kept=kept)
        return {}

    with torch.inference_mode(), open_run(folder) as run:
        out, _ = rollout.sample_rollout(*inputs, run=run, elsewhere=elsewhere)
    files = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("chunk_*.safetensors"))}
    return out["samples"], files, orders_of(seen["task"], seen["kept"], list(files.values()))


def take_of(order, *inputs):
    made = {}
    with torch.inference_mode():
        sample_take(*inputs, TakeOrder.from_plain(order.to_plain()), lambda name, data: made.update({name: data}))
    return made


@pytest.mark.parametrize("anchor", [None, long_memory.TAKE, long_memory.VIDEO])
def test_takes_that_are_made_alone_are_the_rollouts_to_the_bit(tiny, tmp_path, anchor):
    loaded = tiny("wan21")
    model = loaded.model if anchor is None else remembering(loaded.model, anchor)
    timeline = story(loaded.model, CUTS)
    inputs = asked(loaded, timeline, model)
    whole, files, orders = run_of(tmp_path / "run", *inputs)
    assert len(orders) == 3
    made = {}
    for order in reversed(orders):
        of_take = take_of(order, *inputs)
        assert len(of_take) == len(order.wanted)
        made |= of_take
    assert made == files
    assert torch.equal(
        torch.cat([parse_chunk(Path(n), d).tensors["samples"] for n, d in sorted(made.items())], 2), whole
    )


def test_what_is_given_or_found_in_the_run_folder_is_not_made_again(tiny, tmp_path, monkeypatch):
    loaded, made = tiny("wan21"), []
    inputs = asked(loaded, story(loaded.model, CUTS), loaded.model)
    _, files, (order, *_) = run_of(tmp_path / "run", *inputs)
    make = rollout_take.make_chunk

    def making(task, chunk, *others, **named):
        made.append(chunk.number)
        return make(task, chunk, *others, **named)

    monkeypatch.setattr(rollout_take, "make_chunk", making)
    names = list(files)[: len(order.wanted)]
    first, *rest = sorted(order.wanted)
    given = replace(order, wanted={n: order.wanted[n] for n in rest}, given={first: files[names[0]]})
    assert take_of(given, *inputs) == {name: files[name] for name in names[1:]}
    assert made == rest
    there = replace(order, folder=str(tmp_path / "run"))
    assert take_of(there, *inputs) == {name: files[name] for name in names}
    assert made == rest  # all was found
    (tmp_path / "run" / names[1]).write_bytes(b"damaged")
    assert take_of(there, *inputs) == {name: files[name] for name in names}
    assert made == [*rest, rest[0]]


def test_a_take_gives_way_to_locked_shots_as_the_rollout_does(tiny, tmp_path):
    """The locked shot keeps the frames that it has where it stood earlier, and the others move."""
    loaded = tiny("wan21")
    model, stride = loaded.model, 4  # pixel frames of a latent frame

    def inputs_of(frames, locked, seed):
        seconds = [count * stride / 16 for count in frames]
        shots = tuple(
            Shot(f"scene {n}", one, "cut" if n else "continue", locked=locked and n == 1, id=f"shot {n}")
            for n, one in enumerate(seconds)
        )
        return asked(loaded, story(model, shots=shots), model, seed)

    run_of(tmp_path / "run", *inputs_of((8.25, 8.5, 8), False, 7))
    before = set((tmp_path / "run").glob("chunk_*"))
    inputs, seen = inputs_of((5.75, 8.5, 7), True, 9), {}

    def elsewhere(task, kept):
        for chunk in task.chunks:
            found = kept.find(chunk)
            if found is None:
                kept.expect(chunk)
            else:
                seen[chunk.number] = chunk_bytes(kept.keys[chunk.number], {"samples": found})
        seen.update(task=task, kept=kept)
        return {}

    with torch.inference_mode(), open_run(tmp_path / "run") as run:
        rollout.sample_rollout(*inputs, run=run, elsewhere=elsewhere)
    task, kept = seen.pop("task"), seen.pop("kept")
    assert task.timeline is not task.planned  # the others gave way
    assert {chunk.take for chunk in task.chunks if chunk.number in seen} == {1}
    made = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("chunk_*") if path not in before}
    for order in orders_of(task, kept, [])[::2]:
        order = replace(order, kept=locked_frames(kept.locked))
        of_take = take_of(order, *inputs)
        assert of_take and of_take.items() <= made.items()
        made = {name: data for name, data in made.items() if name not in of_take}
    assert not made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda o: replace(o, chunks=3), "chunks here and 3 where it was asked for"),
        (lambda o: replace(o, wanted={}), "chunk 1 of take 1 is neither given nor wanted"),
        (lambda o: replace(o, wanted={n: {**w, "cfg": "0" * 64} for n, w in o.wanted.items()}), "cfg differ"),
        (lambda o: replace(o, wanted={n: {**w, "new": "0"} for n, w in o.wanted.items()}), "new differ"),
    ],
)
def test_an_order_for_another_rollout_is_refused_before_anything_is_sampled(tiny, tmp_path, change, says):
    loaded = tiny("wan21")
    inputs = asked(loaded, story(loaded.model, CUTS), loaded.model)
    _, _, (order, *_) = run_of(tmp_path / "run", *inputs)
    with pytest.raises(ValueError, match=says):
        take_of(change(order), *inputs)


def test_another_model_of_the_same_name_is_refused_by_what_differs(tiny, tmp_path):
    loaded = tiny("wan21")
    inputs = asked(loaded, story(loaded.model, CUTS), loaded.model)
    _, _, (order, *_) = run_of(tmp_path / "run", *inputs)
    other = loaded.model.clone()
    name = next(iter(other.model_state_dict()))
    other.add_patches({name: (torch.ones_like(other.model_state_dict()[name]),)}, 1e-3)
    with pytest.raises(ValueError, match="chunk 1 of shot 1 would be another one here .*: the model differ; give both"):
        take_of(order, other, *inputs[1:])


def test_a_take_that_reads_the_videos_first_chunk_is_not_made_without_it(tiny, tmp_path):
    loaded = tiny("wan21")
    inputs = asked(loaded, story(loaded.model, CUTS), remembering(loaded.model, long_memory.VIDEO))
    _, _, orders = run_of(tmp_path / "run", *inputs)
    with pytest.raises(ValueError, match="take 2 remembers the video's first chunk, and was asked for without it"):
        take_of(replace(orders[1], given={}), *inputs)
