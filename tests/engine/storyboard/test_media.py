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


def test_what_is_no_file_is_named_with_its_folder(folder: Path) -> None:
    with pytest.raises(StoryboardError) as caught:
        resolve_media("shots/rocks.png", folder)
    assert str(caught.value) == (
        f"image is 'shots/rocks.png', no file in {folder.resolve()}; put it there or correct the name"
    )
    with pytest.raises(StoryboardError) as caught:
        resolve_media("shots", folder)
    assert str(caught.value) == f"image is 'shots', a folder in {folder.resolve()}; name a file in it"


@pytest.mark.parametrize(
    ("path", "said"),
    [("a" * 300, "file name too long"), ("circle", "a link that leads in circles|too many levels|no file in")],
)
def test_what_the_disk_cannot_have_is_said_in_words(folder: Path, path: str, said: str) -> None:
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(StoryboardError, match=said) as caught:
        resolve_media(path, folder)
    assert "Errno" not in str(caught.value) and str(caught.value).startswith("image is '")


def test_the_anchor_of_a_storyboard_is_named_by_its_field(folder: Path) -> None:
    anchors = (Anchor(0.0, "shots/ship.png"), Anchor(1.0, "lost.png"))
    assert resolve_anchors(Storyboard((Shot("a", 2, anchors=anchors[:1]),)), folder) == {
        "shots/ship.png": (folder / "shots" / "ship.png").resolve()
    }
    lost = Storyboard((Shot("a", 2, anchors=(Anchor(0.0, "gone.png"),)), Shot("b", 2, anchors=anchors)))
    with pytest.raises(StoryboardError) as caught:
        resolve_anchors(lost, folder)
    first, second = str(caught.value).splitlines()
    assert first.startswith("shot 1, anchor 1: image is 'gone.png', no file in ")
    assert second.startswith("shot 2, anchor 2: image is 'lost.png', no file in ")
