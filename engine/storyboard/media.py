"""Find where a storyboard's pictures lie: paths below one folder, which nothing may leave.

See docs/design.md, The storyboard. Media paths are relative to ComfyUI's input folder and may not leave it, by "..", by
an absolute path, by a backslash or by a link. It does not open the pictures and does not know where ComfyUI's folders
are: the caller names the folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from .board import Storyboard
from .faults import Faults, StoryboardError
from .rules import Media, show


def resolve_media(image: str, input_folder: str | os.PathLike[str], field: str = "image") -> Path:
    """Return the real path of an existing file below `input_folder`, links followed; else StoryboardError naming
    `field`.
    """
    Media().read(image, field)
    try:
        folder = Path(input_folder).resolve()
        path = (folder / image).resolve()
        inside, is_folder, is_file = path.is_relative_to(folder), path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # a name that the disk cannot have, a link to itself, no right to look
        raise StoryboardError(
            f"{field} is {show(image)}, which cannot be opened ({why(error)}); correct the name, or copy the file"
        ) from error
    if not inside:
        raise StoryboardError(
            f"{field} is {show(image)}, a link that leaves the input folder {folder}; copy the file into that folder"
        )
    if is_folder:
        raise StoryboardError(f"{field} is {show(image)}, a folder in {folder}; name a file in it")
    if not is_file:
        raise StoryboardError(f"{field} is {show(image)}, no file in {folder}; put it there or correct the name")
    return path


def resolve_anchors(storyboard: Storyboard, input_folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the real path of every anchor picture, by the name that the storyboard gives it. Raises StoryboardError
    with all that resolve_media finds.
    """
    found: dict[str, Path] = {}
    faults = Faults()
    for index, shot in enumerate(storyboard.shots):
        for number, anchor in enumerate(shot.anchors):
            try:
                found[anchor.image] = found.get(anchor.image) or resolve_media(anchor.image, input_folder)
            except StoryboardError as error:
                faults.extend(error, f"shot {index + 1}, anchor {number + 1}")
    faults.stop()
    return found


def why(error: Exception) -> str:
    """Return what the system says of a file, in words and without its number."""
    said = (error.strerror if isinstance(error, OSError) else None) or "a link that leads in circles"
    return said[0].lower() + said[1:]
