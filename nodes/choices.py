"""A choice that brings inputs of its own: core hands it over as a dict, and one that is no option bare."""


def check_choice(name: str, value: dict | str, options: tuple[str, ...]) -> dict:
    """The choice and its inputs. Raises ValueError, naming the input, for one that is no option."""
    if isinstance(value, str) or value[name] not in options:
        raise ValueError(
            f'{name} "{value if isinstance(value, str) else value[name]}" is no choice; use {", ".join(options)}'
        )
    return value
