"""hosts/families/sites.py: arguments of a call, however they were passed. The sites themselves: test_patching.py."""

import pytest

from longreel.hosts.families.sites import argument


class Block:
    def forward(self, x, freqs, text=None, options={}):  # noqa: B006 (as core writes it)
        """Never called."""


@pytest.mark.parametrize(
    "args, kwargs, text, options",
    [
        ((1, 2, 3, 4), {}, 3, 4),
        ((1,), {"freqs": 2, "text": 3, "options": 4}, 3, 4),
        ((1, 2), {"text": 3}, 3, {}),
        ((1, 2), {}, None, {}),
    ],
)
def test_an_argument_is_found_by_place_by_name_or_by_its_default(args, kwargs, text, options):
    assert argument(Block.forward, args, kwargs, "text") == text
    assert argument(Block.forward, args, kwargs, "options") == options
