"""Generated pages whose tables have a word in each cell, and its longer text in a numbered note at the page's end."""

from __future__ import annotations

from collections.abc import Callable

HEADING = "## Notes"


class Notes:
    """The notes of a page that is being written, in the order in which its cells first need them."""

    def __init__(self, plain: tuple[str, ...], word_of: Callable[[str], str]):
        """plain: texts that are their own word. word_of: what stands in the cell of any other one."""
        self.plain, self.word_of, self.texts = plain, word_of, []

    def cell(self, text: str) -> str:
        """Return what stands in a cell: "works", or "refused (3)"."""
        if text in self.plain:
            return text
        if text not in self.texts:
            self.texts.append(text)
        return f"{self.word_of(text)} ({self.texts.index(text) + 1})"

    def lines(self) -> list[str]:
        return [HEADING, "", *(f"{number}. {text}" for number, text in enumerate(self.texts, 1))]


def read_cell(page: str, section: str, row: str) -> str:
    """Return the text of a cell: its word, or the note that it names."""
    lines = page.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    (found,) = [line for line in lines if line.startswith(f"| {row} |")]
    word = found.split("|")[2].strip()
    if "(" not in word:
        return word
    number = word.partition("(")[2].rstrip(")")
    (note,) = [line for line in page.split(f"{HEADING}\n", 1)[1].splitlines() if line.startswith(f"{number}. ")]
    return note.removeprefix(f"{number}. ")
