"""Keys of this pack in ComfyUI's containers: all in one file, each with one meaning, each used, each explained."""

import ast
from itertools import pairwise
from pathlib import Path

from longreel.hosts import keys

HOSTS = Path(keys.__file__).parent
PREFIX = "longreel_"
CONSTANTS = {name: value for name, value in vars(keys).items() if name.isupper()}


def trees() -> list[tuple[Path, ast.Module]]:
    """(file, parsed) for each file of hosts/ besides keys.py."""
    return [(path, ast.parse(path.read_text())) for path in sorted(HOSTS.rglob("*.py")) if path.name != "keys.py"]


def test_keys_stand_in_one_file():
    found = [
        f"{path.relative_to(HOSTS)}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(PREFIX)
    ]
    assert len(trees()) > 50 and not found


def test_a_key_means_one_thing():
    assert len(CONSTANTS) > 20 and len(set(CONSTANTS.values())) == len(CONSTANTS)
    assert all(value == "longreel" or value.startswith(PREFIX) for value in CONSTANTS.values())


def test_each_key_is_used():
    used = {
        node.attr
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keys"
    }
    assert used == set(CONSTANTS)


def test_each_key_says_what_lies_there():
    body = ast.parse(Path(keys.__file__).read_text()).body
    explained = {
        first.targets[0].id
        for first, second in pairwise(body)
        if isinstance(first, ast.Assign) and isinstance(second, ast.Expr) and len(second.value.value) > 20
    }
    assert explained == set(CONSTANTS)
