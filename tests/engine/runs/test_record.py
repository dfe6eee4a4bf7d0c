"""engine/runs/record.py: a record is read as it was written, and shots are the same shots after an edit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.runs.chunk_file import NAME
from longreel.engine.runs.record import RunRecord, match_shots, read_record

prompts = st.lists(st.sampled_from("abcdefgh"), max_size=8)
names = st.from_regex(NAME, fullmatch=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), max_size=4), st.dictionaries(st.tuples(st.integers(0), st.integers(0)), names, max_size=5))
def test_a_record_is_read_as_it_was_written(shots, files):
    record = RunRecord(tuple(shots), files)
    assert read_record(record.to_json()) == record


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        ("abc", "abc", {0: 0, 1: 1, 2: 2}),
        ("abc", "xabc", {0: 1, 1: 2, 2: 3}),
        ("abc", "ac", {0: 0, 2: 1}),
        ("abc", "abxc", {0: 0, 1: 1, 2: 3}),
        ("abc", "axc", {0: 0, 1: 1, 2: 2}),
        ("abc", "xyc", {0: 0, 1: 1, 2: 2}),
        ("abc", "axyc", {0: 0, 2: 3}),
        ("", "abc", {}),
        ("abc", "", {}),
        ("a", "b", {0: 0}),
        ("aa", "aaa", {0: 0, 1: 1}),
    ],
)
def test_shots_are_found_again_by_their_prompts(before, now, moved):
    assert match_shots(list(before), list(now)) == moved


@settings(max_examples=200, deadline=None)
@given(prompts, prompts)
def test_no_two_shots_become_one_and_their_order_stays(before, now):
    moved = match_shots(before, now)
    assert list(moved) == sorted(moved) and list(moved.values()) == sorted(set(moved.values()))
    assert all(0 <= shot < len(before) and 0 <= to < len(now) for shot, to in moved.items())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), max_size=8))
def test_the_same_storyboard_moves_nothing(shots):
    assert match_shots(shots, shots) == {number: number for number in range(len(shots))}


def test_files_move_with_their_shots_and_leave_with_them():
    record = RunRecord(("a", "b")).with_file(0, 0, "one").with_file(1, 0, "two").with_file(1, 1, "three")
    assert record.for_shots(["x", "b"]).files == {(0, 0): "one", (1, 0): "two", (1, 1): "three"}
    assert record.for_shots(["x", "a", "b"]).files == {(1, 0): "one", (2, 0): "two", (2, 1): "three"}
    assert record.for_shots(["b"]).files == {(0, 0): "two", (0, 1): "three"}
    assert record.for_shots(["b"]).shots == ("b",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", r"2 characters are no record of a run \(TypeError"),
        ("{}", "KeyError: 'longreel_run'"),
        ('{"longreel_run": 2}', "it is of version 2, and this Longreel reads 1"),
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
