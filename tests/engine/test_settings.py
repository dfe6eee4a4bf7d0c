"""engine/settings.py: a key that is not known and a value of another kind are named."""

from dataclasses import dataclass

import pytest

from longreel.engine.settings import check_settings


@dataclass
class Given:
    steps: int = 1
    rate: float = 0.1
    title: str = ""
    shown: bool = False


@pytest.mark.parametrize("given", [{}, {"steps": 3, "rate": 1, "title": "x", "shown": True}, {"rate": 0.5}])
def test_known_keys_with_values_of_their_kind_are_taken(given):
    check_settings(Given, given, "model")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": 3}, 'model.step is not a known key; did you mean "steps"'),
        ({"steps": 0.5}, "model.steps is 0.5, not a int"),
        ({"steps": True}, "model.steps is True, not a int"),
        ({"rate": True}, "model.rate is True, not a float"),
        ({"shown": 1}, "model.shown is 1, not a bool"),
    ],
)
def test_what_is_no_setting_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        check_settings(Given, given, "model")
