"""Check the name of a run: a plain folder name that every system takes, so that a run can be moved to another one.

The rules are Windows' (docs: "Naming Files, Paths, and Namespaces"), which are stricter than those of the others. Which
runs there are is not known here.
"""

RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "CONIN$",
    "CONOUT$",
    *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³"),
}
FORBIDDEN = '<>:"/\\|?*'
MAX_CHARACTERS = 100
MAX_BYTES = 255  # of a name in UTF-8, on the file systems of Linux and macOS
REMEDY = "use letters, digits, spaces, - and _"


def check_run_name(name: str, added: int = 0) -> str:
    """Return `name` where it can name a run. Raises ValueError, naming the character or the word that makes it no
    folder name.

    added: bytes that are put behind it where a file is named after the run.
    """
    if not name.strip():
        raise ValueError(f"the run name is empty; {REMEDY}")
    if len(name) > MAX_CHARACTERS:
        raise ValueError(f"the run name has {len(name)} characters, and at most {MAX_CHARACTERS} are taken; shorten it")
    for place, character in enumerate(name, 1):
        if character in FORBIDDEN or not character.isprintable():
            raise ValueError(
                f"the run name {name!r} has {character!r} at character {place} of {len(name)}, which no "
                f"folder name may have; {REMEDY}"
            )
    for character, end in ((name[0], "begins"), (name[-1], "ends")):
        if character in ". ":
            raise ValueError(f"the run name {name!r} {end} with {character!r}, which not every system keeps; {REMEDY}")
    word = name.split(".", maxsplit=1)[0].rstrip().upper()
    if word in RESERVED:
        raise ValueError(f"the run name {name!r} is {word}, which Windows keeps for a device; add a letter")
    check_bytes("the run name", name, added)
    return name


def check_bytes(what: str, name: str, added: int = 0) -> None:
    """Raise ValueError where `name` and the bytes `added` to it are more than a file or folder name may have."""
    if (taken := len(name.encode("utf-8", "surrogatepass"))) > MAX_BYTES - added:
        raise ValueError(
            f"{what} has {len(name)} characters in {taken} bytes, and at most {MAX_BYTES - added} bytes are taken; "
            f"shorten it"
        )
