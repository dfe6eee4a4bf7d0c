"""engine/runs/record.py: a record is read as it was written, and files stay with their shots."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.runs.chunk_file import NewerVersion
from longreel.engine.runs.record import Made, RunRecord, ShotRecord, Video, read_record
from longreel.engine.runs.shots import RunShot

names = st.integers(0, 10**6).map(lambda number: f"chunk_{number:04d}_{number:012x}.safetensors")
files = st.dictionaries(st.integers(0, 9), names, max_size=3)
shots = st.builds(
    RunShot,
    prompt=st.text(max_size=5),
    own_prompt=st.none() | st.text(max_size=5),
    id=st.none() | st.text(min_size=1, max_size=3),
    seed=st.none() | st.integers(0, 2**64 - 1),
    seconds=st.none() | st.floats(0.1, 9),
    locked=st.booleans(),
    fps=st.none() | st.floats(1, 99),
    family=st.none() | st.just("Wan"),
    pieces=st.none() | st.integers(1, 9),
)
made = st.builds(Made, st.none() | st.floats(0.1, 9), st.none() | st.floats(1, 9), st.none(), st.integers(0, 9))
records = st.builds(ShotRecord, shots, files, files, st.none() | made, st.text(max_size=3))
videos = st.builds(Video, st.text(max_size=3), st.lists(records, max_size=3).map(tuple))


def name(number: int) -> str:
    return f"chunk_{number:04d}_0123456789ab.safetensors"


def asked(prompts, **known) -> list[RunShot]:
    return [RunShot(prompt=prompt, own_prompt=prompt, pieces=2, **known) for prompt in prompts]


def made_run(prompts, record=None, sampler="", first=0) -> RunRecord:
    """A record after a whole run of two chunks for each shot."""
    record = (record or RunRecord()).for_shots(asked(prompts), sampler).record
    for shot in range(len(prompts)):
        for piece in range(2):
            record = record.with_file(shot, piece, name(first + 2 * shot + piece))
    return record


def kept(record: RunRecord) -> list[list[str]]:
    return [[file for _, file in sorted(shot.kept.items())] for shot in record.video.shots]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(videos, max_size=3).map(tuple), st.lists(records, max_size=2).map(tuple), st.frozensets(names, max_size=3)
)
def test_a_record_is_read_as_it_was_written(videos, earlier, once_locked):
    record = RunRecord(videos, earlier, once_locked)
    assert read_record(record.to_json()) == record


def test_a_record_of_the_first_longreel_is_read():
    text = json.dumps({"longreel_run": 1, "shots": ["a", "b"], "chunks": [{"shot": 1, "piece": 0, "file": name(3)}]})
    record = read_record(text)
    assert kept(record) == [[], [name(3)]] and record.video.shots[1].is_complete is None
    assert kept(record.for_shots(asked("xb"), "12").record) == [[], [name(3)]]
    newest = json.loads(made_run("ab").to_json())
    assert newest["longreel_run"] == 1 and newest["shots"] == ["a", "b"]  # which the first Longreel reads
    assert newest["chunks"] == [{"shot": n // 2, "piece": n % 2, "file": name(n)} for n in range(4)]


def test_files_move_with_their_shots_and_wait_for_those_that_left():
    record = made_run("ab")
    assert kept(record.for_shots(asked("xab")).record) == [[], [name(0), name(1)], [name(2), name(3)]]
    without = record.for_shots(asked("b")).record
    assert kept(without) == [[name(2), name(3)]] and not {name(0), name(1)} & without.names
    assert kept(without.for_shots(asked("ba")).record) == [[name(2), name(3)], [name(0), name(1)]]


def test_another_storyboard_in_between_loses_nothing():
    record = made_run("ab")
    between = record.for_shots(asked(["quite", "another", "board"])).record
    assert kept(between.for_shots(asked("ab", locked=True)).record) == [[name(0), name(1)], [name(2), name(3)]]


def test_each_sampler_has_a_video_of_its_own():
    record = made_run("xy", made_run("ab", sampler="1"), sampler="2", first=4)
    assert record.names == {name(number) for number in range(8)}
    one = record.for_shots(asked("ab"), "1").record
    assert kept(one) == [[name(0), name(1)], [name(2), name(3)]] and one.names == record.names
    third = one.for_shots(asked("qa"), "3").record  # takes by its prompt what it knows, by its place nothing
    assert kept(third) == [[], [name(0), name(1)]] and third.names == record.names


def test_a_lock_keeps_the_last_whole_set_of_files_while_another_is_begun():
    record = made_run("a").with_file(0, 0, name(5))
    assert kept(record) == [[name(0), name(1)]]  # not chunk 5 beside chunk 1
    assert kept(record.with_file(0, 1, name(6))) == [[name(5), name(6)]]
    begun = RunRecord().for_shots(asked("a")).record.with_file(0, 0, name(5))
    assert kept(begun) == [[name(5)]] and begun.video.shots[0].is_complete is False


def test_what_a_shot_was_when_its_files_were_made_is_known_after_it_was_changed():
    record = made_run(["a"])
    was = record.video.shots[0].made
    changed = record.for_shots([RunShot(prompt="a", own_prompt="a", seconds=9.0, fps=99.0, pieces=8)]).record
    assert changed.video.shots[0].made == was == Made(None, None, None, 2)


def test_what_is_not_sure_stays_so_until_the_shot_is_made():
    record = made_run("xaay").for_shots(asked("xay")).record
    assert record.video.shots[1].unsure == "1 shots have its prompt where the last run had 2"
    again = read_record(record.to_json()).for_shots([*asked("x"), *asked("a", locked=True), *asked("y")]).record
    assert again.video.shots[1].unsure
    used = again.with_file(1, 0, again.file_of(1, 0)).video.shots[1]
    assert used.unsure  # by a lock, which shows nothing
    assert not record.with_file(1, 0, name(9)).video.shots[1].unsure


def test_of_endless_edits_the_newest_shots_and_those_once_locked_are_known(monkeypatch):
    monkeypatch.setattr("longreel.engine.runs.record.MOST_EARLIER", 5)
    record = made_run("a").for_shots(asked("a", locked=True)).record.for_shots(asked("a")).record
    for number in range(10):
        record = made_run([f"edit {number}"], record, first=10 + 2 * number)
    assert [shot.shot.prompt for shot in record.earlier] == ["a", *(f"edit {number}" for number in range(4, 9))]


def test_what_was_once_locked_is_remembered():
    record = made_run("ab").for_shots([*asked("a", locked=True), *asked("b")]).record
    assert record.once_locked == {name(0), name(1)}
    assert record.for_shots(asked("b")).record.once_locked == {name(0), name(1)}
    assert record.with_file(0, 0, name(7)).once_locked == {name(0), name(1), name(7)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", r"2 characters are no record of a run \(TypeError"),
        ("{}", "KeyError: 'longreel_run'"),
        ('{"longreel_run": 0}', "it is of version 0, and this Longreel reads 1"),
        ('{"longreel_run": "2"}', "it is of version '2', and this Longreel reads 1"),
        ("[" * 100_000, "100000 characters are no record of a run: they are nested too deeply"),
        ('{"longreel_run": 1, "shots": []}', "KeyError: 'chunks'"),
        ('{"longreel_run": 1, "shots": [], "chunks": [1]}', "TypeError"),
        (
            '{"longreel_run": 1, "shots": [], "chunks": [{"shot": "0", "piece": 0, "file": "a"}]}',
            "not all whole numbers",
        ),
        ('{"longreel_run": 1, "shots": [5], "chunks": []}', "prompts and file names are not all text"),
        ('{"longreel_run": 1, "shots": [], "chunks": [{"shot": 0, "piece": 0, "file": null}]}', "not all text"),
        (
            '{"longreel_run": 1, "shots": [], "chunks": [{"shot": 0, "piece": 0, "file": "../a"}]}',
            "'../a' is no name of a chunk's file",
        ),
    ],
)
def test_what_is_no_record_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        read_record(text)


def test_a_record_of_a_newer_longreel_is_told_apart():
    with pytest.raises(NewerVersion, match="it is of version 2, and this Longreel reads 1"):
        read_record('{"longreel_run": 2}')
