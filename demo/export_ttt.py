"""Writes the layers of a finished training run as the half-precision file that the pack brings along.

    python -m longreel.demo.export_ttt build/ttt/mlp/ttt.safetensors shapeworld_ttt_mlp

TTT layers go to demo/weights/ttt, which ComfyUI's list of TTT files shows; what they are compared with
(engine/ttt/baselines.py) goes to demo/weights/compared, which nothing but the benchmark reads.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from ..engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from ..engine.ttt.layer import LACT, LINEAR, MLP
from .twin import WEIGHTS

SHOWN, COMPARED = WEIGHTS / "ttt", WEIGHTS / "compared"


def halved(layers: LoadedTTT) -> LoadedTTT:
    """The same in float16. Raises ValueError for a weight that float16 cannot hold."""
    held = {number: {name: weight.half() for name, weight in block.items()} for number, block in layers.layers.items()}
    for number, block in held.items():
        for name, weight in block.items():
            if not bool(weight.isfinite().all()):
                largest = float(layers.layers[number][name].abs().max())
                raise ValueError(
                    f"block {number}: {name} reaches {largest:g} and float16 ends at 65504; lower the "
                    f"learning rate of the run"
                )
    return replace(layers, layers=held)


def folder_of(layers: LoadedTTT) -> Path:
    """Return where layers of this kind are bundled."""
    return SHOWN if layers.config.kind in (MLP, LINEAR, LACT) else COMPARED


def main() -> None:
    """Read the command line, and do what the module says."""
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("layers", type=Path, help="ttt.safetensors of a run")
    args.add_argument("name", help="of the file, without its ending")
    opts = args.parse_args()
    layers = load_ttt(opts.layers)
    path = folder_of(layers) / f"{opts.name}.safetensors"
    save_ttt(path, halved(layers))
    print(f"{path}: {path.stat().st_size:,} bytes\n{load_ttt(path, shapes_only=True).summary()}")


if __name__ == "__main__":
    main()
