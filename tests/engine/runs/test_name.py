"""engine/runs/name.py: names that every system takes pass, and the others are refused for the reason that they have."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longreel.engine.runs.name import FORBIDDEN, check_run_name


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "lighthouse 2",
        "été_灯台",
        "v1.2",
        "x..y",
        "console",
        "com",
        "com10",
        "aux1",
        "a-b",
        "x" * 100,
        "日" * 85,
        "(1) [a] {b} & c's ~ + # @",
    ],
)
def test_plain_names_pass_as_they_are(name):
    assert check_run_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "the run name is empty; use letters"),
        ("  ", "the run name is empty"),
        ("x" * 101, "has 101 characters, and at most 100 are taken; shorten it"),
        ("日" * 86, "has 86 characters in 258 bytes, and at most 255 bytes are taken; shorten it"),
        ("🎬" * 100, "has 100 characters in 400 bytes, and at most 255 bytes"),
        ("a/b", "'a/b' has '/' at character 2 of 3, which no folder name may have"),
        ("a\\b", r"has '\\\\' at character 2 of 3"),
        ("../up", "has '/' at character 3 of 5"),
        ("C:x", "has ':' at character 2"),
        ("a\0", r"has '\\x00' at character 2"),
        ("a\n", r"has '\\n' at character 2"),
        ("a\u202eb", r"has '\\u202e' at character 2"),
        ("a\ud800", "has '.ud800' at"),
        (".", "begins with '.', which not every system keeps"),
        ("..", "begins with '.'"),
        (".hidden", "begins with '.'"),
        ("a.", "ends with '.'"),
        ("a ", "ends with ' '"),
        (" a", "begins with ' '"),
        ("con", "'con' is CON, which Windows keeps for a device; add a letter"),
        ("NUL.txt", "is NUL"),
        ("Lpt1", "is LPT1"),
        ("COM².a.b", "is COM²"),
        ("aux .x", "is AUX"),
        ("CONIN$", r"is CONIN\$"),
    ],
)
def test_other_names_are_refused_with_the_character_at_fault(name, says):
    with pytest.raises(ValueError, match=says):
        check_run_name(name)


def test_a_name_leaves_room_for_what_is_put_behind_it():
    assert check_run_name("日" * 79, added=18) == "日" * 79  # 237 bytes
    with pytest.raises(ValueError, match="has 80 characters in 240 bytes, and at most 237 bytes are taken"):
        check_run_name("日" * 80, added=18)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters() | st.sampled_from(FORBIDDEN + ". "), max_size=12) | st.text("é日🎬", max_size=101))
def test_a_name_that_passes_is_a_folder_of_its_own(tmp_path, name):
    try:
        check_run_name(name)
    except ValueError:
        return
    (tmp_path / name).mkdir(exist_ok=True)
    assert name in os.listdir(tmp_path)
    (tmp_path / name).rmdir()
