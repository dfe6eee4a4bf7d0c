"""engine/storyboard/media.py: pictures are found below the input folder and nowhere else."""

from pathlib import Path

import pytest

from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from longreel.engine.storyboard.media import resolve_anchors, resolve_media
from longreel.engine.storyboard.rules import StoryboardError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "input" / "shots").mkdir(parents=True)
    (tmp_path / "input" / "shots" / "ship.png").write_bytes(b"ship")
    (tmp_path / "input-other").mkdir()
    (tmp_path / "input-other" / "secret.png").write_bytes(b"secret")
    return tmp_path / "input"


def test_a_picture_below_the_folder_is_found(folder: Path) -> None:
    assert resolve_media("shots/ship.png", folder).read_bytes() == b"ship"


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "shots" / "ship.png")
    assert resolve_media("link.png", folder) == (folder / "shots" / "ship.png").resolve()


@pytest.mark.parametrize("link", ["secret.png", "shots/secret.png", "out/secret.png"])
def test_a_link_that_leaves_is_refused(folder: Path, link: str) -> None:
    if link == "out/secret.png":
        (folder / "out").symlink_to(folder.parent / "input-other", target_is_directory=True)
    else:
        (folder / link).symlink_to(folder.parent / "input-other" / "secret.png")
    with pytest.raises(StoryboardError, match=rf"^image is '{link}', a link that leaves the input folder .*; copy"):
        resolve_media(link, folder)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../input-other/secret.png", "leaves the input folder"),
        ("shots/../../input-other/secret.png", "leaves the input folder"),
        ("/etc/passwd", "not relative"),
        ("C:/secret.png", "not relative"),
        ("C:secret.png", "not relative"),
        ("//server/share/a.png", "not relative"),
        ("..\\input-other\\secret.png", "backslash"),
        ("shots\\ship.png", "backslash"),
        (".. /input-other/secret.png", "ends in a dot or space"),
        ("shots/./ship.png", "ends in a dot or space"),
        ("shots//ship.png", "empty"),
        ("shots/ship.png\n", "control character"),
        ("shots/ship.png\0.txt", "control character"),
        ("", "empty"),
        (".", "ends in a dot"),
    ],
)
def test_a_path_that_could_leave_is_refused(folder: Path, path: str, reason: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        resolve_media(path, folder, "shot 4, anchor 1: image")
    assert str(caught.value).startswith("shot 4, anchor 1: image is ") and reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["shots", "shots/rocks.png"])
def test_what_is_no_file_is_named_with_its_folder(folder: Path, path: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        resolve_media(path, folder)
    assert str(caught.value) == f"image is '{path}', no file in {folder.resolve()}; put it there or correct the name"


def test_the_anchor_of_a_storyboard_is_named_by_its_field(folder: Path) -> None:
    anchors = (Anchor(0.0, "shots/ship.png"), Anchor(1.0, "lost.png"))
    assert resolve_anchors(Storyboard((Shot("a", 2, anchors=anchors[:1]),)), folder) == {
        "shots/ship.png": (folder / "shots" / "ship.png").resolve()
    }
    with pytest.raises(StoryboardError, match=r"^shot 2, anchor 2: image is 'lost.png', no file in "):
        resolve_anchors(Storyboard((Shot("a", 2), Shot("b", 2, anchors=anchors))), folder)
