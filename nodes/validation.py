"""How a node tells ComfyUI before a run that an input is wrong: core wants True, or the reason as text."""

from collections.abc import Callable


def verdict(check: Callable[[], object]) -> bool | str:
    """True, or the message of the ValueError that `check` raises."""
    try:
        check()
    except ValueError as error:
        return str(error)
    return True
