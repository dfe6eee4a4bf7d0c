"""Find where a storyboard's pictures lie: paths below one folder, which nothing may leave.

See docs/design.md, The storyboard. Media paths are relative to ComfyUI's input folder and may not leave it, by "..", by
an absolute path, by a backslash or by a link. It does not open the pictures and does not know where ComfyUI's folders
are: the caller names the folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from .board import Storyboard
from .rules import Media, StoryboardError, show


def resolve_media(image: str, input_folder: str | os.PathLike[str], field: str = "image") -> Path:
    """Return the real path of an existing file below `input_folder`, links followed; else StoryboardError naming
    `field`.
    """
    Media().read(image, field)
    folder = Path(input_folder).resolve()
    path = (folder / image).resolve()
    if not path.is_relative_to(folder):
        raise StoryboardError(
            f"{field} is {show(image)}, a link that leaves the input folder {folder}; copy the file into that folder"
        )
    if not path.is_file():
        raise StoryboardError(f"{field} is {show(image)}, no file in {folder}; put it there or correct the name")
    return path


def resolve_anchors(storyboard: Storyboard, input_folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the real path of every anchor picture, by the name that the storyboard gives it. Raises as
    resolve_media.
    """
    found: dict[str, Path] = {}
    for index, shot in enumerate(storyboard.shots):
        for place, anchor in enumerate(shot.anchors):
            field = f"shot {index + 1}, anchor {place + 1}: image"
            found[anchor.image] = resolve_media(anchor.image, input_folder, field)
    return found
