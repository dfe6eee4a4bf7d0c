"""Longreel Load Memory: trained memories of a rollout, CAM or APM, from a file."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..engine.memory.files import load_memory
from .sockets import MemorySocket

FOLDER = "longreel_memory"  # below ComfyUI's models
SUFFIX = ".safetensors"

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
folder_paths.folder_names_and_paths[FOLDER][1].add(SUFFIX)  # what the list of files shows


class LongreelLoadMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLoadMemory",
            display_name="Longreel Load Memory",
            category="Longreel",
            description="A trained memory for rollouts from a file in ComfyUI's models/longreel_memory folder: CAM "
            "(short-term) or APM (long-term) of StreamingT2V, for this pack's model families.",
            search_aliases=["streamingt2v", "cam", "apm", "conditional attention", "appearance preservation"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip=(
                        "A .safetensors file of models/longreel_memory that Longreel saved. A changed file is read again."
                    ),
                )
            ],
            outputs=[
                MemorySocket.Output(display_name="memory"),
                io.String.Output(
                    display_name="summary",
                    tooltip="Which model the memory belongs to, which of the two it is, and how large.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # it comes through a wire
            return True
        try:
            load_memory(_path(file))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> tuple[int, int] | float:
        if file is None:
            return float("nan")  # unlike itself: a file that comes through a wire is read on every run
        about = _path(file).stat()
        return about.st_mtime_ns, about.st_size

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        memory = load_memory(_path(file))
        return io.NodeOutput(memory, memory.summary())


def _path(file: str) -> Path:
    """Raises ValueError where models/longreel_memory has no such file."""
    path = folder_paths.get_full_path(FOLDER, file)
    if path is None:
        folders = folder_paths.get_folder_paths(FOLDER)
        raise ValueError(
            f"file is {file!r}, and none of {len(folders)} folders has it, first {folders[0]}; put it "
            f"there, or choose another"
        )
    return Path(path)
