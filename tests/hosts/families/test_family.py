"""hosts/families/family.py: every family says all of it, and nothing outside asks which family a model is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from longreel.hosts.families import FAMILIES, family_of, plain_family_of
from longreel.hosts.families.family import Family

ROOT = Path(__file__).resolve().parents[3]
FAMILY_FILES = {
    "wan",
    "cogvideox",
    "hunyuan_video",
    "ltxv",
    "ltxav",
    "kandinsky",
}  # hosts/anchor/wan.py, hosts/ttt/wan.py, ... are a family's
OTHERS = [
    path
    for path in sorted((ROOT / "hosts").rglob("*.py"))
    if path.parent.name != "families" and path.stem not in FAMILY_FILES and path.name != "cogvideox_block.py"
]
NETWORK_CLASSES = {family.NETWORK.__name__ for family in FAMILIES}
TEXT_ENCODERS = ROOT / "hosts" / "prompts" / "words.py"  # names HunyuanVideo's text encoders, which are no networks


def questions(source: str) -> list[str]:
    """Places in a file that ask which family or network class a model is, one line for each."""
    tree, found = ast.parse(source), []
    family_modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in FAMILY_FILES
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(
            isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)) for op in node.ops
        ):
            names = {side.id for side in (node.left, *node.comparators) if isinstance(side, ast.Name)}
            found += [f"line {node.lineno} compares with the family {name}" for name in names & family_modules]
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in NETWORK_CLASSES:
            found.append(f"line {node.lineno} names the network class {name}")
    return found


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_outside_the_families_asks_which_family_a_model_is(path: Path):
    assert questions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from ..families import wan\nif start.family is not wan: pass",
        "from . import hunyuan_video as anchor_hunyuan\nself.x = self.adapter is anchor_hunyuan",
        "from comfy.ldm.wan.model import WanModel\nok = isinstance(network, WanModel)",
        "import comfy.ldm.wan.model as m\ntable = {m.WanModel: 512}",
    ],
)
def test_a_question_is_found(source: str):
    assert questions(source)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.NAME)
def test_every_family_says_all_that_the_protocol_asks(family: Family):
    methods = {name for name in vars(Family) if not name.startswith("_") and callable(getattr(Family, name))}
    facts = set(Family.__annotations__)
    assert len(methods) >= 10 and {"NAME", "NETWORK", "OVERWRITES_INPUTS"} <= facts
    assert not [name for name in methods | facts if not hasattr(family, name)]
    assert all(callable(getattr(family, name)) for name in methods)


def test_blocks_come_in_the_order_of_the_sites(every_tiny, tiny):
    model = tiny(every_tiny.name).model
    family, network = family_of(model), model.model.diffusion_model
    assert plain_family_of(network) is family
    blocks, sites = family.blocks(network), family.sites(network)
    assert {site.block for site in sites} == set(range(len(blocks)))
    for site in sites:
        assert any(module is site.module for module in blocks[site.block].modules())
    assert any(module is family.entrance(network) for module in network.modules())
