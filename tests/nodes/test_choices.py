"""nodes/choices.py: an option passes with its inputs, anything else is named."""

import pytest

from tests.comfy_inprocess import import_comfyui

import_comfyui()

from longreel.nodes.choices import check_choice


def test_an_option_passes_with_its_inputs():
    chosen = {"source": "chosen", "source_shot": 2}
    assert check_choice("source", chosen, ("first", "chosen")) is chosen


@pytest.mark.parametrize("value", ["last", {"source": "last"}])
def test_what_is_no_option_is_named_beside_the_options(value):
    with pytest.raises(ValueError, match='source "last" is no choice; use first, chosen'):
        check_choice("source", value, ("first", "chosen"))
