"""Longreel Save TTT: trained layers into a new file of models/ttt."""

from dataclasses import replace
from pathlib import Path

import torch

import folder_paths
from comfy_api.latest import io, ui

from ..engine.ttt.files import LoadedTTT, save_ttt
from .folders import NUMBERED, check_name, free_file
from .sockets import TTTSocket
from .ttt import FOLDER
from .validation import verdict

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class LongreelSaveTTT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelSaveTTT",
            display_name="Longreel Save TTT",
            category="Longreel/training",
            description="Saves TTT layers into ComfyUI's models/ttt folder, from where Longreel Load TTT reads them. "
            "A file that is there is never overwritten.",
            search_aliases=["export ttt", "save memory layers"],
            is_output_node=True,
            inputs=[
                TTTSocket.Input("ttt", tooltip="From Longreel Train TTT or Longreel Load TTT."),
                io.String.Input(
                    "name", default="layers", tooltip=("Of the file; a number is added: layers_00001_.safetensors.")
                ),
                io.Combo.Input(
                    "stored_as",
                    options=list(DTYPES),
                    default="bfloat16",
                    tooltip=("float32: as trained, twice as large. bfloat16 and float16 round."),
                ),
                io.String.Input(
                    "title", default="", optional=True, advanced=True, tooltip="Written into the file; empty: as it is."
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="For Longreel Load TTT.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return verdict(lambda: check_name("name", "from a wire" if name is None else name, NUMBERED))

    @classmethod
    def execute(cls, ttt: LoadedTTT, name: str, stored_as: str, title: str = "") -> io.NodeOutput:
        path = free_file(Path(folder_paths.get_folder_paths(FOLDER)[0]), check_name("name", name, NUMBERED))
        layers = {
            number: {key: value.to(DTYPES[stored_as]) for key, value in block.items()}
            for number, block in ttt.layers.items()
        }
        save_ttt(path, replace(ttt, layers=layers, title=title or ttt.title))
        return io.NodeOutput(path.name, ui=ui.PreviewText(f"{path}\n{ttt.summary()}"))
