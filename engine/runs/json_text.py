"""Read JSON of strangers, for which Python has more than one error. What it says is not known here."""

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Return what `text` says. Raises ValueError where it is no JSON, has numbers of thousands of digits, or is nested
    deeper than Python follows.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
