"""engine/runs/folder.py: what was finished is used again or the report says why not, whenever the process was killed.

The chunks here are a small stand-in for sampling: each one's latents are computed from its prompt and from the chunk
that it continues from, so that a chunk which was not made again in time is seen in the numbers.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from longreel.engine.runs.chunk_file import HEADER_BYTES, NAME, NewerVersion, chunk_key, read_chunk, write_chunk
from longreel.engine.runs.content_hash import content_hash
from longreel.engine.runs.folder import LOCK, PLAN, RECORD, STORYBOARD, RunFolder, open_run
from longreel.engine.runs.lock import RunInUse
from longreel.engine.runs.shots import RunShot
from longreel.engine.runs.whole_file import WriteError
from tests.engine.killed import holding, killed_at_byte, killed_at_call, largest_file, reachable_folder, read_only

PIECES = 2  # chunks of each shot


def made(prompt: str, seed: int, before: torch.Tensor, frames: int) -> torch.Tensor:
    return (
        torch.full((1, 4, frames, 2, 2), float(sum(prompt.encode()) + seed), dtype=torch.bfloat16) + before.mean() / 3
    )


def make(
    path: Path,
    prompts: Sequence[str] = ("a", "b", "c"),
    locked: Sequence[str] = (),
    seed: int = 0,
    frames: int = 3,
    remove_old: bool = False,
    saved: Callable[[int], object] = lambda number: None,
) -> tuple[RunFolder, list[torch.Tensor], list[str]]:
    """A whole run -> the run, the latents of its chunks, the names of old files. A prompt in capitals follows a cut."""
    latents, before = [], None
    with open_run(path) as run:
        run.begin('{"longreel": 1}', '{"chunks": 6}', prompts)
        run.require_space(len(prompts) * PIECES, made("a", seed, torch.zeros(1), frames).nbytes)
        for number in range(len(prompts) * PIECES):
            shot, piece = divmod(number, PIECES)
            before = None if prompts[shot].isupper() and not piece else before
            key = chunk_key(
                number,
                shot,
                piece,
                {
                    "the prompt": prompts[shot],
                    "the seed": seed,
                    "frames": frames,
                    "the chunk before": before and before.hash,
                },
            )
            chunk = run.find(key, prompts[shot] in locked, {"samples": (1, 4, frames, 2, 2)})
            if chunk is None:
                known = torch.zeros(1) if before is None else before.tensors["samples"]
                chunk = run.save(key, {"samples": made(prompts[shot], seed, known, frames)})
                saved(number)
            latents.append(chunk.tensors["samples"])
            before = chunk
        old = run.finish(remove_old)
    return run, latents, old


def states(run: RunFolder) -> str:
    """One letter for each chunk: r reused, l locked, m made, a made again."""
    letters = {"reused": "r", "locked": "l", "made": "m", "made again": "a"}
    return "".join(letters[outcome.state] for _, outcome in sorted(run.outcomes.items()))


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != LOCK}


def shot_of(prompt: str) -> RunShot:
    return RunShot(prompt=prompt)


def note(file: Path, number: int) -> None:
    with open(file, "a") as notes:
        notes.write(f"{number}\n")


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if NAME.fullmatch(file.name))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "longreel" / "lighthouse"


def test_a_run_leaves_its_storyboard_its_plan_and_one_file_for_each_chunk(path):
    run, latents, old = make(path)
    assert states(run) == "mmmmmm" and old == []
    assert (path / STORYBOARD).read_text() == '{"longreel": 1}' and (path / PLAN).read_text() == '{"chunks": 6}'
    assert [content_hash(read_chunk(file).tensors["samples"]) for file in chunk_files(path)] == list(
        map(content_hash, latents)
    )
    assert sorted(os.listdir(path)) == sorted(
        [STORYBOARD, PLAN, RECORD, LOCK, *(file.name for file in chunk_files(path))]
    )


def test_the_same_run_again_makes_nothing_and_is_the_same_to_the_bit(path):
    _, first, _ = make(path)
    before = {file: file.stat().st_mtime_ns for file in chunk_files(path)}
    run, again, _ = make(path)
    assert states(run) == "rrrrrr"
    assert content_hash(first) == content_hash(again)
    assert {file: file.stat().st_mtime_ns for file in chunk_files(path)} == before


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (("a", "b", "x"), "rrrraa"),
        (("a", "x", "c"), "rraaaa"),
        (("x", "b", "c"), "aaaaaa"),
        (("a", "b", "c", "d"), "rrrrrrmm"),
        (("a", "b"), "rrrr"),
        (("a", "x", "b", "c"), "rrmmaaaa"),
        (("a", "c"), "rraa"),
    ],
)
def test_a_changed_shot_and_what_continues_from_it_are_made_again(path, tmp_path, prompts, expected):
    make(path)
    run, latents, _ = make(path, prompts)
    assert states(run) == expected
    assert content_hash(latents) == content_hash(make(tmp_path / "new", prompts)[1])


@pytest.mark.parametrize(
    ("prompts", "expected"), [(("x", "B", "c"), "aarrrr"), (("a", "x", "B", "c"), "rrmmrrrr"), (("B", "c"), "rrrr")]
)
def test_a_change_does_not_reach_across_a_cut(path, tmp_path, prompts, expected):
    make(path, ("a", "B", "c"))
    run, latents, _ = make(path, prompts)
    assert states(run) == expected
    assert content_hash(latents) == content_hash(make(tmp_path / "new", prompts)[1])


def test_the_report_says_what_was_used_and_why_the_rest_was_made(path):
    assert make(path)[0].report().splitlines()[:2] == ["chunk 1 (shot 1): made: new", "chunk 2 (shot 1): made: new"]
    run, _, _ = make(path, ("a", "x", "b", "d"), locked=("b",))
    assert run.report().splitlines() == [
        "chunk 1 (shot 1): reused",
        "chunk 2 (shot 1): reused",
        "chunk 3 (shot 2): made: new",
        "chunk 4 (shot 2): made: new",
        "chunk 5 (shot 3): locked",
        "chunk 6 (shot 3): locked",
        "chunk 7 (shot 4): made again: the prompt changed",
        "chunk 8 (shot 4): made again: the prompt changed, the chunk before changed",
    ]


def test_every_dependency_that_differs_is_named_up_to_three(path):
    with open_run(path) as run:
        run.begin("{}", "{}", ["a"])
        run.find(first := chunk_key(0, 0, 0, {"the prompt": "a", "the seed": 1, "cfg": 6.0, "the sampler": "euler"}))
        run.save(first, {})
        for wanted, reason in [
            ({"the prompt": "a", "the seed": 2, "cfg": 6.0, "the sampler": "euler"}, "the seed changed"),
            ({"the prompt": "a", "the seed": 1, "cfg": 6.0}, "the sampler is gone"),
            (
                {"the seed": 1, "the prompt": "a", "the noise": 1, "cfg": 5.0, "the sampler": "euler"},
                "the noise is new, cfg changed",
            ),
            (
                {"the prompt": "b", "the seed": 2, "cfg": 1.0},
                "the prompt changed, the seed changed, cfg changed and 1 more",
            ),
        ]:
            assert run.find(chunk_key(0, 0, 0, wanted)) is None
            assert run.report() == f"chunk 1 (shot 1): not made again: {reason}"


def test_what_is_not_made_yet_is_reported_so(path):
    with open_run(path) as run:
        run.begin("{}", "{}", ["a"])
        run.find(chunk_key(0, 0, 0, {}))
        assert run.report() == "chunk 1 (shot 1): not made: new"
        with pytest.raises(
            ValueError, match="1 of 1 chunks are not made, first 0; make them before the run is finished"
        ):
            run.finish()


def test_only_a_chunk_that_was_missed_is_saved(path):
    key = chunk_key(4, 0, 0, {})
    with open_run(path) as run:
        run.begin("{}", "{}", ["a"])
        with pytest.raises(ValueError, match="chunk 4 is saved without having been looked for and missed"):
            run.save(key, {})
        run.find(key)
        run.save(key, {})
        with pytest.raises(ValueError, match="chunk 4 is saved without"):
            run.save(key, {})


@pytest.mark.parametrize(
    ("prompts", "locked", "seed", "expected"),
    [
        (("a", "b", "c"), "b", 1, "aallaa"),
        (("x", "b", "c"), "b", 0, "aallrr"),
        (("a", "x", "c"), "x", 0, "rrllrr"),
        (("x", "a", "b", "c"), "b", 1, "mmaallaa"),
        (("b", "c"), "b", 1, "llaa"),
        (("a", "b", "c"), "abc", 1, "llllll"),
    ],
)
def test_a_locked_shot_keeps_its_files_whatever_changed(path, prompts, locked, seed, expected):
    _, first, _ = make(path)
    run, latents, _ = make(path, prompts, locked=locked, seed=seed)
    assert states(run) == expected
    at = prompts.index(locked[0]) * PIECES
    was = at if locked == "x" else "abc".index(locked[0]) * PIECES
    assert content_hash(latents[at : at + PIECES]) == content_hash(first[was : was + PIECES])


def test_what_continues_from_a_locked_shot_continues_from_what_it_shows(path):
    _, first, _ = make(path)
    run, latents, _ = make(path, ("x", "b", "c"), locked="b")
    assert states(run) == "aallrr"  # the third shot continues from the same latents as before
    assert content_hash(latents[2:]) == content_hash(first[2:])


def test_a_locked_shot_keeps_what_it_showed_last_not_what_it_was_once(path):
    _, first, _ = make(path)
    _, second, _ = make(path, seed=16)
    assert content_hash(first) != content_hash(second)
    run, latents, _ = make(path, locked="abc", seed=0)  # seed 0's files are still there
    assert states(run) == "llllll" and content_hash(latents) == content_hash(second)
    assert states(make(path, seed=0)[0]) == "rrrrrr"
    run, latents, _ = make(path, locked="abc", seed=32)
    assert states(run) == "llllll" and content_hash(latents) == content_hash(first)


def test_a_shot_that_got_shorter_uses_its_last_chunk_no_more(path):
    keys = [chunk_key(number, 0, number, {"the number": number}) for number in range(2)]
    for wanted, old in ((keys, []), (keys[:1], [keys[1].file_name])):
        with open_run(path) as run:
            run.begin("{}", "{}", ["a"])
            for key in wanted:
                if run.find(key) is None:
                    run.save(key, {})
            assert run.finish() == old


def test_a_locked_shot_without_a_file_is_made(path):
    assert states(make(path, locked="abc")[0]) == "mmmmmm"


def test_a_locked_file_of_another_size_is_refused_with_both_sizes(path):
    make(path)
    with pytest.raises(
        ValueError,
        match=r"shot 2 is locked, and chunk_0002_.* holds samples of \[1, 4, 3, 2, 2\] where the plan "
        r"needs \[1, 4, 5, 2, 2\]; unlock the shot, or plan it with its size and seconds",
    ):
        make(path, locked="b", frames=5)
    assert states(make(path)[0]) == "rrrrrr"


def test_an_unlocked_shot_of_another_size_is_made_again(path):
    make(path)
    run, latents, _ = make(path, frames=5)
    assert states(run) == "aaaaaa" and latents[0].shape[2] == 5


def test_a_shot_that_is_changed_back_is_found_again(path):
    _, first, _ = make(path)
    make(path, ("a", "x", "c"))
    run, latents, _ = make(path)
    assert states(run) == "rrrrrr" and content_hash(latents) == content_hash(first)


def test_old_files_stay_until_a_complete_run_is_told_to_remove_them(path):
    make(path)
    before = chunk_files(path)
    _, _, old = make(path, ("a", "x"))
    assert old == [file.name for file in before[2:]]
    assert set(before) < set(chunk_files(path)) and len(chunk_files(path)) == 8
    _, _, removed = make(path, ("a", "x"), remove_old=True)
    assert removed == old and len(chunk_files(path)) == 4
    assert states(make(path, ("a", "x"))[0]) == "rrrr"


def test_other_files_in_the_folder_are_left_alone(path):
    make(path)
    for name in ("notes.txt", "chunk_0001_mine.safetensors", "chunk_1.safetensors"):
        (path / name).write_text("mine")
    make(path, ("x",), remove_old=True)
    assert {"notes.txt", "chunk_0001_mine.safetensors", "chunk_1.safetensors"} < set(os.listdir(path))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "has .* bytes that are no whole safetensors file"),
        (lambda file: file.write_bytes(b""), "has 0 bytes that are no whole safetensors file"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\7"),
            "was written with checksum .*: its numbers were changed",
        ),
        (
            lambda file: file.write_bytes(file.with_name("other").read_bytes()),
            "describes chunk_0000_.*: it was renamed",
        ),
        (lambda file: file.unlink(), "is gone"),
    ],
    ids=["cut short", "empty", "tampered", "foreign", "gone"],
)
def test_a_damaged_chunk_alone_is_made_again_and_named(path, damage, reason):
    _, first, _ = make(path)
    files = chunk_files(path)
    (path / "other").write_bytes(files[0].read_bytes())
    damage(files[2])
    with pytest.raises(ValueError, match=rf"^shot 2 is locked, and {files[2].name} {reason}.*; nothing is made or rem"):
        make(path, locked="abc")
    assert all(file.exists() for file in files if file != files[2])
    run, latents, _ = make(path)
    assert states(run) == "rrarrr"
    assert run.outcomes[2].reason.startswith(files[2].name) and re.search(reason, run.report())
    assert content_hash(latents) == content_hash(first)
    assert states(make(path)[0]) == "rrrrrr"


@pytest.mark.parametrize("tensors", [{"samples": torch.ones(1)}, {"x": torch.ones(1, 4, 3, 2, 2)}])
def test_a_forged_chunk_of_another_shape_is_made_again_and_named(path, tensors):
    """A checksum is no secret: a latent of one number would be spread over the whole chunk."""
    _, first, _ = make(path)
    forged = chunk_files(path)[2]
    write_chunk(path, read_chunk(forged).key, tensors)
    run, latents, _ = make(path)
    assert states(run) == "rrarrr" and content_hash(latents) == content_hash(first)
    assert re.search(rf"made again: {forged.name} holds samples of .* where the plan needs \[1, 4, 3", run.report())


def test_folders_with_the_names_of_files_are_named_or_left_alone(path):
    make(path)
    (path / "chunk_0007_000000000000.safetensors").mkdir()
    (path / ".other.part").mkdir()
    assert states(make(path, remove_old=True)[0]) == "rrrrrr"
    for name in (STORYBOARD, RECORD, chunk_files(path)[0].name):
        (path / name).rename(path / "kept")
        (path / name).mkdir()
        with pytest.raises(WriteError, match=f"^{name} is a folder, and .* belongs there; move it out of {path}"):
            make(path)
        (path / name).rmdir()
        (path / "kept").rename(path / name)
    assert states(make(path)[0]) == "rrrrrr"


def test_a_damaged_chunk_stays_until_its_replacement_is_complete(path):
    make(path)
    file = chunk_files(path)[2]
    file.write_bytes(b"damaged")
    with open_run(path) as run:
        run.begin("{}", "{}", ("a", "b", "c"))
        key = chunk_key(
            2,
            1,
            0,
            {"the prompt": "b", "the seed": 0, "frames": 3, "the chunk before": read_chunk(chunk_files(path)[1]).hash},
        )
        assert key.file_name == file.name and run.find(key) is None
        with largest_file(1), pytest.raises(WriteError):
            run.save(key, {"samples": torch.zeros(3)})
        assert file.read_bytes() == b"damaged"
        run.save(key, {"samples": torch.zeros(3)})
    assert torch.equal(read_chunk(file).tensors["samples"], torch.zeros(3))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"longreel_run": 0}', "\udcff", "[" * 100_000])
def test_without_its_record_chunks_are_found_by_their_hashes_and_the_report_says_so(path, text):
    make(path)
    (path / RECORD).write_bytes(text.encode("utf-8", "surrogateescape"))
    run, _, _ = make(path)
    assert states(run) == "rrrrrr"
    assert run.report().startswith("chunks.json is damaged (")
    assert "damaged" not in make(path)[0].report()


@pytest.mark.parametrize("name", ["../chunk_0000_000000000000.safetensors", "storyboard.json", ""])
def test_a_record_that_names_other_files_leads_to_none_of_them(path, name):
    make(path)
    record, first = (path / RECORD).read_text(), chunk_files(path)[0]
    (path / RECORD).write_text(record.replace(first.name, name))
    first.unlink()
    with pytest.raises(
        ValueError, match=rf"^shot 1 is locked, and chunks.json, .*, is damaged \({name!r} is no name of "
    ):
        make(path, locked="abc")
    (path / RECORD).write_text(record.replace(first.name, name))
    run, _, _ = make(path)
    assert states(run) == "mrrrrr"
    assert run.report().startswith(f"chunks.json is damaged ({name!r} is no name of a chunk's file)")


@pytest.mark.parametrize("lost", [lambda record: record.write_bytes(b"{"), lambda record: record.unlink()])
def test_where_the_record_is_lost_no_locked_shot_is_made_again_and_nothing_is_removed(path, lost):
    make(path)
    before = chunk_files(path)
    lost(path / RECORD)
    with pytest.raises(ValueError, match="^shot 2 is locked, and chunks.json, which says which files it used, is "):
        make(path, ("a", "b", "c"), locked="b", seed=1, remove_old=True)
    lost(path / RECORD)
    assert states(make(path, locked="abc", remove_old=True)[0]) == "llllll"  # found by what they depend on
    lost(path / RECORD)
    make(path, ("a", "x"), remove_old=True)
    assert set(before) <= set(chunk_files(path))


def test_what_a_newer_longreel_wrote_is_refused_and_stays(path):
    make(path)
    before = contents(path)
    (path / RECORD).write_text('{"longreel_run": 2}')
    for _ in range(2):
        with pytest.raises(
            NewerVersion,
            match=r"^chunks.json of run 'lighthouse' was written by a newer .* version 2.*another run name$",
        ):
            make(path)
    assert (path / RECORD).read_text() == '{"longreel_run": 2}'
    (path / RECORD).write_bytes(before[RECORD])
    newer = chunk_files(path)[3]
    newer.write_bytes(newer.read_bytes().replace(b'\\"version\\": 1', b'\\"version\\": 2'))
    written = newer.read_bytes()
    with open_run(path) as run, pytest.raises(NewerVersion, match=f"^{newer.name} is of version 2"):
        run.locked_shots([RunShot(prompt=prompt) for prompt in "abc"])
    with pytest.raises(NewerVersion, match=f"^{newer.name} is of version 2"):
        make(path)
    assert newer.read_bytes() == written


def test_a_locked_shot_that_is_not_recognised_stops_the_run(path):
    make(path)
    before = contents(path)
    with (
        open_run(path) as run,
        pytest.raises(ValueError, match="^shot 2 is locked, and none of the shots that run 'lig"),
    ):
        run.locked_shots([RunShot(prompt="a"), RunShot(prompt="x", locked=True), *map(shot_of, "bc")])
    assert contents(path) == before
    with pytest.raises(ValueError, match="^shot 2 is locked, and none of the shots that run 'lighthouse' has made is"):
        make(path, ("a", "x", "b", "c"), locked="x")


def test_a_locked_shot_that_could_be_two_of_before_stops_the_run(path):
    make(path, ("x", "a", "a", "y"))
    with (
        open_run(path) as run,
        pytest.raises(ValueError, match="^shot 2 is locked, and 1 shots have its prompt where the last run had 2"),
    ):
        run.locked_shots([shot_of("x"), RunShot(prompt="a", locked=True), shot_of("y")])


def test_what_a_locked_shot_has_is_known_before_the_run_begins(path):
    make(path)
    before = contents(path)
    with open_run(path) as run:
        locked = run.locked_shots([shot_of("x"), shot_of("a"), RunShot(prompt="b", locked=True), shot_of("c")])
    assert list(locked) == [2] and locked[2].shapes == ({"samples": (1, 4, 3, 2, 2)},) * PIECES
    assert locked[2].is_complete is True and contents(path) == before


@pytest.mark.parametrize("locked", ["", "ab"])
def test_a_storyboard_that_came_and_went_loses_no_lock(path, locked):
    """Another storyboard is begun under the name and given up; then the first one comes back, locked."""
    _, first, _ = make(path, ("a", "b"))
    make(path, ("a", "b"), locked=locked, seed=1 if locked else 0)
    with open_run(path) as run:
        run.begin("{}", "{}", ("x", "y", "z"))
    run, latents, _ = make(path, ("a", "b"), locked="ab", seed=7, remove_old=True)
    assert states(run) == "llll" and content_hash(latents) == content_hash(first)


def test_no_file_that_was_ever_locked_is_removed(path):
    _, _, _ = make(path)
    before = chunk_files(path)
    make(path, locked="b", seed=1)
    make(path, ("a", "c"), seed=2, remove_old=True)
    make(path, seed=3, remove_old=True)
    assert [file for file in before if file.exists()] == before[2:4]
    assert states(make(path, ("a", "c"), seed=3, remove_old=True)[0]) == "rraa"
    assert [file for file in before if file.exists()] == before[2:4]


def test_two_samplers_with_one_name_keep_each_others_chunks(path):
    def one(sampler, prompts):
        with open_run(path) as run:
            shots = [RunShot(prompt=prompt) for prompt in prompts]
            run.locked_shots(shots, sampler)
            run.begin("{}", "{}", shots, sampler)
            for number, prompt in enumerate(prompts):
                key = chunk_key(number, number, 0, {"the prompt": prompt})
                if run.find(key) is None:
                    run.save(key, {"samples": torch.ones(2)})
            assert run.finish(remove_old=True) == []
            return states(run)

    assert [one("1", "ab"), one("2", "xyz"), one("1", "ab"), one("2", "xyz")] == ["mm", "mmm", "rr", "rrr"]


@pytest.mark.slow
def test_killed_at_any_call_every_finished_chunk_is_used_again_and_the_end_is_the_same(tmp_path):
    """In between, files of the run before are there too, and the run ends by removing them."""
    prompts, before, whole = ("a", "B", "x"), tmp_path / "before", tmp_path / "whole"
    make(before, ("a", "B", "c"))
    shutil.copytree(before, whole)
    make(whole, prompts, remove_old=True)
    killed, number = [], 0
    while True:
        path = tmp_path / str(number)
        shutil.copytree(before, path)
        finished = tmp_path / f"{number} finished"
        finished.touch()
        if not killed_at_call(number, partial(make, path, prompts, saved=partial(note, finished), remove_old=True)):
            break
        done = [int(line) for line in finished.read_text().split()]
        run, _, _ = make(path, prompts, remove_old=True)
        assert states(run).startswith("rrrr") and all(states(run)[chunk] == "r" for chunk in done)
        assert contents(path) == contents(whole)
        killed.append(states(run))
        number += 1
    assert {"rrrraa", "rrrrra", "rrrrrr"} == set(killed)
    assert contents(path) == contents(whole)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_killed_while_a_chunk_is_written_the_others_are_used_again(path, part):
    key = chunk_key(1, 0, 1, {"the seed": 1})
    large = torch.arange(100_000)

    def write() -> None:
        with open_run(path) as run:
            run.begin("{}", "{}", ["a"])
            for wanted, values in ((chunk_key(0, 0, 0, {"the seed": 0}), large[:10]), (key, large)):
                run.find(wanted)
                run.save(wanted, {"samples": values})

    assert killed_at_byte(2000 + int(part * large.nbytes), write)
    assert (path / f".{key.file_name}.part").exists()
    with open_run(path) as run:
        assert run.notes == [f"{key.file_name} was half written by a run that was killed"]
        run.begin("{}", "{}", ["a"])
        assert run.find(chunk_key(0, 0, 0, {"the seed": 0})) is not None
        assert run.find(key) is None
        assert not list(path.glob(".*"))


def test_one_process_at_a_time(path):
    make(path)
    before = contents(path)
    kept = []
    with holding(lambda: kept.append(opened := open_run(path)) or opened.__enter__()) as process:
        with pytest.raises(RunInUse, match=f"'lighthouse' is held by process {process}"), open_run(path):
            pass
        assert contents(path) == before
    assert states(make(path)[0]) == "rrrrrr"


def test_an_error_gives_the_lock_back(path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), open_run(path):
            raise KeyboardInterrupt
    (path / RECORD).mkdir()  # what opening cannot read
    for _ in range(2):
        with pytest.raises(OSError, match="is a folder, and the record belongs there"), open_run(path):
            pass
    (path / RECORD).rmdir()
    assert states(make(path)[0]) == "mmmmmm"


def test_a_full_disk_stops_the_run_and_keeps_what_was_finished(path):
    make(path, ("a",))
    with open_run(path) as run:
        run.begin("{}", "{}", ("a", "b"))
        key = chunk_key(2, 1, 0, {})
        run.find(key)
        (path / f".{key.file_name}.part").symlink_to("/dev/full")
        with pytest.raises(
            WriteError, match=rf"^{key.file_name} needs [\d,]+ bytes, and writing stopped \(No space left on "
        ):
            run.save(key, {"samples": torch.zeros(3)})
        assert run.report() == "chunk 3 (shot 2): not made: new"
        assert run.save(key, {"samples": torch.zeros(3)}).path.exists()
    assert states(make(path, ("a",))[0]) == "rr"


def test_a_disk_without_room_is_refused_before_sampling_with_both_numbers(path):
    with open_run(path) as run:
        needed = 1000 * (2**50 + HEADER_BYTES)
        with pytest.raises(
            WriteError,
            match=rf"1000 chunks need {needed:,} bytes, and [\d,]+ are free in .*; free space, use "
            rf"another output folder, or plan fewer chunks",
        ):
            run.require_space(1000, 2**50)
        run.require_space(10, 2**10)


def test_a_read_only_folder_is_refused_before_sampling():
    with reachable_folder() as folder:
        with read_only(folder), pytest.raises(WriteError) as refused, open_run(folder / "run"):
            pass
        assert re.search(
            r"cannot be opened for writing \(Permission denied: .*run\), with [\d,]+ bytes free there; make it "
            r"writable, or use another output folder$",
            str(refused.value),
        )
        make(folder / "run")
        (folder / "run").chmod(0o755)
        with read_only(folder / "run"), pytest.raises(WriteError, match="Permission denied"):
            make(folder / "run")
        assert states(make(folder / "run")[0]) == "rrrrrr"


def test_a_file_in_the_folders_place_is_refused_and_stays(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(WriteError, match=r"cannot be opened for writing \(File exists: .*lighthouse\)"), open_run(path):
        pass
    assert path.read_text() == "mine"


def test_a_folder_that_turns_read_only_stops_the_run_and_keeps_what_was_finished():
    with reachable_folder() as folder:
        path, key = folder / "run", chunk_key(2, 1, 0, {})
        make(path, ("a",))
        with open_run(path) as run:
            run.begin("{}", "{}", ("a", "b"))
            run.find(key)
            with read_only(path), pytest.raises(WriteError, match=r"writing stopped \(Permission denied\)"):
                run.save(key, {"samples": torch.zeros(3)})
        assert states(make(path, ("a",))[0]) == "rr"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_chunk_of_numbers_that_are_none_is_not_kept(tmp_path, number):
    with open_run(tmp_path / "run") as run:
        run.begin("{}", "{}", ["a"])
        key = chunk_key(0, 0, 0, {"the prompt": "a"})
        assert run.find(key) is None
        with pytest.raises(ValueError, match="^chunk 1 of shot 1 has samples with NaN or infinite numbers"):
            run.save(key, {"samples": torch.tensor([1.0, number])})
    assert not list((tmp_path / "run").glob("*chunk_0*"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_kept_chunk_of_numbers_that_are_none_counts_as_damaged(tmp_path, number):
    """Packs before this one kept them, and used them again for ever."""
    path = tmp_path / "run"
    run, right, _ = make(path)
    name = run._record.file_of(1, 0)
    found = read_chunk(path / name)
    found.tensors["samples"][0, 0, 0, 0, 0] = number
    write_chunk(path, found.key, found.tensors)
    run, again, _ = make(path)
    assert all(torch.equal(one, other) for one, other in zip(again, right, strict=True))
    assert f"made again: {name} holds samples with NaN or infinite numbers" in run.report()
