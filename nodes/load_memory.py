"""Longreel Load Memory: trained memories of a rollout, CAM or APM, from a file."""

import folder_paths
from comfy_api.latest import io

from ..engine.memory.files import load_memory
from .folders import add_model_folder, fingerprint, model_file
from .sockets import MemorySocket
from .validation import verdict_aside

FOLDER = "longreel_memory"  # below ComfyUI's models

add_model_folder(FOLDER)


class LongreelLoadMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLoadMemory",
            display_name="Longreel Load Memory",
            category="Longreel/memory",
            description="A trained memory for rollouts from a file in ComfyUI's models/longreel_memory folder: CAM "
            "(short-term) or APM (long-term) of StreamingT2V, for this pack's model families.",
            search_aliases=["streamingt2v", "cam", "apm", "conditional attention", "appearance preservation"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip=(
                        "A .safetensors file of models/longreel_memory that Longreel saved. A changed file is read "
                        "again."
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
    async def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # it comes through a wire
            return True
        return await verdict_aside(lambda: load_memory(model_file(FOLDER, file), shapes_only=True))

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> tuple[int, int] | float:
        return fingerprint(None if file is None else model_file(FOLDER, file))

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        memory = load_memory(model_file(FOLDER, file))
        return io.NodeOutput(memory, memory.summary())
