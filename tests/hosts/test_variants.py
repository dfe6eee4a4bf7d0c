"""A part of docs/variants.md sampled again; the page has no fault, and all variants and features."""

from functools import cache

import pytest

from tests import variants
from tests.variants import FEATURES

SAMPLE = [
    ("Wan VACE", "Short Memory (keys and values)"),
    ("Wan VACE with a reference picture", "Long Memory"),
    ("Wan 2.2 Fun-Control", "CAM"),
    ("HuMo 1.7B", "KV Share, masks by words"),
    ("Wan 2.2 S2V", "rollout"),
    ("SCAIL", "Long Memory"),
    ("Phantom", "Focus Preview"),
    ("FlowRVS", "joint"),
]


@cache
def all_variants() -> dict[str, variants.Wires]:
    return variants.all_variants()


def test_the_page_has_every_variant_and_no_fault():
    text = variants.PAGE.read_text("utf-8")
    assert "FAULT" not in text
    for variant in all_variants():
        for feature in FEATURES:
            assert variants.written(variant, feature).startswith(("runs", "refused: "))


@pytest.mark.parametrize(("variant", "feature"), SAMPLE)
def test_what_the_page_says_of_a_pair_comes_of_it(variant: str, feature: str):
    now = variants.cell(all_variants()[variant], feature)
    assert variants.written(variant, feature) == now, f"write docs/variants.md anew with `{variants.COMMAND}`"
