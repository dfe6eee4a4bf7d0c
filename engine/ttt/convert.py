"""Convert the TTT layers of ttt-video's checkpoint folder to the pack's format.

    python -m longreel.engine.ttt.convert FOLDER OUT.safetensors [--transformer OUT2.safetensors]

(`longreel` is the pack's folder; run it in the folder above.) FOLDER is what ttt-video's training or its converter
wrote with torch.distributed.checkpoint: `.metadata` and `*.distcp`. OUT belongs into ComfyUI's models/ttt. OUT2, on
request, is the transformer of the same checkpoint under the names of ComfyUI's CogVideoX, for models/diffusion_models.

Neither ComfyUI nor a process group is needed; memory is that of the file being written. `.metadata` is a pickle: only
the classes that describe tensors are let out of it, so nothing that it says is run.
"""

import argparse
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from ..runs.whole_file import save_whole
from . import published as ttt_video
from .files import LoadedTTT, save_ttt
from .weights import Value, config_of

METADATA = ".metadata"
DESCRIPTIONS = {  # the classes of a checkpoint's description, which only hold what they are given
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
}
PATH_MODULES = {"pathlib", "pathlib._local"}


class _DescriptionUnpickler(pickle.Unpickler):
    """Unpickle the classes of DESCRIPTIONS, torch's dtypes and paths, and nothing else."""

    def find_class(self, module: str, name: str):
        if module in PATH_MODULES and name in ("PosixPath", "WindowsPath"):
            return _path_text  # a path of the system that saved it may not exist as a class here
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in DESCRIPTIONS.get(module, ()):
            return super().find_class(module, name)
        raise ValueError(
            f"{METADATA} asks for {module}.{name}, and a checkpoint's description needs none of it; do "
            f"not use this file"
        )


def _path_text(*parts: str) -> str:
    return "/".join(parts)


class _Reader(dcp.FileSystemReader):
    """Read checkpoint folders as torch does, with a description that nothing can be smuggled into."""

    def read_metadata(self, *args, **kwargs) -> Metadata:
        with open(Path(self.path) / METADATA, "rb") as file:
            return _DescriptionUnpickler(file).load()


def _description(folder: Path) -> Metadata:
    file = folder / METADATA
    if not file.is_file():
        raise ValueError(f"{folder} has no {METADATA}; give the folder that holds {METADATA} and *.distcp")
    try:
        return _Reader(folder).read_metadata()
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(
            f"{file} has {file.stat().st_size} bytes that are no description of a checkpoint ({error}); "
            f"copy the folder again"
        ) from error


def read_folder(folder: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint folder whose names are wanted, on the CPU, as they are stored.

    Raises ValueError, naming the folder, for what is no checkpoint folder.
    """
    description = _description(folder)
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in description.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata) and wanted(name)
    }
    missing = {
        place.relative_path
        for index, place in description.storage_data.items()
        if index.fqn in tensors and not (folder / place.relative_path).is_file()
    }
    if missing:
        raise ValueError(f"{len(missing)} files of {folder} are missing, first {min(missing)}; copy the folder again")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single process")
        dcp.load(tensors, storage_reader=_Reader(folder))
    return tensors


def convert(folder: Path, out: Path, chunk: int | None = None, base_rate: float | None = None) -> LoadedTTT:
    """Write the TTT layers of a ttt-video checkpoint folder to `out`. chunk, base_rate: `mini_batch_size` and
    `ttt_base_lr` of the training, the published ones if None.

    Raises ValueError for a folder without TTT layers, or with incomplete ones.
    """
    layers = ttt_video.ttt_layers(read_folder(folder, lambda name: bool(ttt_video.ttt_layers({name: None}))))
    if not layers:
        raise ValueError(f"no tensor of {folder} is TTT's; give a checkpoint of ttt-video's network with TTT layers")
    ttt = LoadedTTT(
        layers,
        config_of(layers[min(layers)], chunk, base_rate),
        ttt_video.FAMILY,
        ttt_video.SEGMENT_LATENT_FRAMES,
        _layers_in(folder),
    )
    save_ttt(out, ttt)
    return ttt


def convert_transformer(folder: Path, out: Path) -> int:
    """Write the rest of the network under the names of ComfyUI's CogVideoX, and return how many tensors."""
    count = _layers_in(folder)
    found = read_folder(folder, lambda name: bool(_of_core({name: None}, count)))
    weights = _of_core(found, count)
    if not weights:
        raise ValueError(f"no tensor of {folder} is a CogVideoX's; give a checkpoint of ttt-video's network")
    save_whole(out, weights, {})
    return len(weights)


def _of_core(tensors: Mapping[str, Value], layers: int) -> dict[str, Value]:
    return ttt_video.network_weights({ttt_video.without_prefix(name): value for name, value in tensors.items()}, layers)


def _layers_in(folder: Path) -> int:
    return ttt_video.layer_count(_description(folder).state_dict_metadata)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: convert the folder named in `arguments` (of the process, if None), or end with a message."""
    parser = argparse.ArgumentParser(prog="convert_ttt", description="TTT layers out of ttt-video's checkpoint folder.")
    parser.add_argument("folder", type=Path, help="holds .metadata and *.distcp")
    parser.add_argument("out", type=Path, help="the .safetensors for ComfyUI's models/ttt")
    parser.add_argument(
        "--transformer", type=Path, metavar="OUT2", help="also write the transformer, for models/diffusion_models"
    )
    parser.add_argument("--chunk", type=int, help="mini_batch_size of the training, if it was not the published one")
    parser.add_argument("--base-rate", type=float, help="ttt_base_lr of the training, if it was not the published one")
    given = parser.parse_args(arguments)
    for path in filter(None, (given.out, given.transformer)):
        if path.suffix.lower() != ".safetensors" or path.exists():
            parser.error(
                f"{path} {'is there already' if path.exists() else 'is no .safetensors'}; give a new name "
                f"that ends in .safetensors"
            )
    try:
        print(f"{given.out}\n{convert(given.folder, given.out, given.chunk, given.base_rate).summary()}")
        if given.transformer:
            print(f"{given.transformer}\n{convert_transformer(given.folder, given.transformer)} tensors")
    except ValueError as error:
        sys.exit(f"convert_ttt: {error}")


if __name__ == "__main__":
    main()
