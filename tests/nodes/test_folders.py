"""nodes/folders.py: what a node may read from ComfyUI's input folder."""

import pytest

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import folder_paths

from longreel.nodes.folders import clips_folder


@pytest.fixture
def folder(tmp_path):
    before = folder_paths.get_input_directory()
    (tmp_path / "input" / "clips" / "pictures").mkdir(parents=True)
    folder_paths.set_input_directory(str(tmp_path / "input"))
    yield tmp_path / "input" / "clips"
    folder_paths.set_input_directory(before)


@pytest.mark.parametrize("place", ["a.mp4", "a.json", "pictures/0001.png", "more"])
def test_a_data_sets_file_that_is_a_link_to_elsewhere_is_refused(folder, tmp_path, place: str):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"x")
    assert clips_folder("clips") == folder.resolve()
    (folder / place).symlink_to(outside if place == "more" else outside / "secret.mp4")
    with pytest.raises(ValueError, match=f"{place} in folder 'clips' is a link that leaves the input folder .*copy"):
        clips_folder("clips")


def test_a_link_within_the_input_folder_is_followed(folder):
    (folder.parent / "film.mp4").write_bytes(b"x")
    (folder / "a.mp4").symlink_to(folder.parent / "film.mp4")
    assert clips_folder("clips") == folder.resolve()


@pytest.mark.parametrize("name", ["..", "/", "nowhere", "clips/../../elsewhere"])
def test_a_folder_elsewhere_is_refused(folder, tmp_path, name: str):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ValueError, match="is no folder below"):
        clips_folder(name)
