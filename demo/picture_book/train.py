"""Trains the whole picture-book model, step after step; the same command goes on where it was stopped.

    python -m longreel.demo.picture_book.train WORK [--threads 2] [--scale 1.0]
    python -m longreel.demo.picture_book.train WORK --export FOLDER

The steps are the VAE (train_vae.py), its finishing and the encoded clips (encode.py), the transformer with its text
encoder (train_dit.py), and the VAE's decoder alone once more. Each logs to WORK/NAME.log and keeps a checkpoint at
WORK/NAME.pt; SIGTERM saves and ends. It uses a GPU where there is one, and leaves its process number in WORK/pids;
beside other work, use `nice -n 19`. `--export` writes what has been trained so far as the three files that ComfyUI
loads.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import encode, running, train_dit, train_vae


def train(work: Path, scale: float) -> None:
    """Do whatever step is not done."""
    stop = running.Stop()
    done = train_vae.train(work, train_vae.HOURS * scale, stop)
    done = done and encode.encode_all(work, stop, scale)
    done = done and train_dit.train(work, stop, scale)
    done = done and encode.finish_decoder(work, train_vae.DECODER_HOURS * scale, stop)
    running.log(work, "train", finished=bool(done))


def export(work: Path, folder: Path, checkpoint: str = "dit.pt") -> None:
    """Write the averaged weights in float16, under the names of the demo model's files."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = torch.load(work / checkpoint, map_location="cpu")["ema"]
    config = {"num_heads": train_dit.SHAPE["heads"], "text_dim": train_dit.SHAPE["text_width"]}
    metadata = {"config": json.dumps({"transformer": config})}
    for part, name, about in (("dit.", "shapeworld_t2v", metadata), ("text.", "shapeworld_text", None)):
        state = {k.removeprefix(part): v.half().contiguous() for k, v in saved.items() if k.startswith(part)}
        save_file(state, folder / f"{name}.safetensors", metadata=about)
    shutil.copy(work / encode.VAE_FILE, folder / "shapeworld_vae.safetensors")


def main() -> None:
    """Read the command line, and train or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of the planned time and number of clips, for a trial")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the three files there and stop")
    options = parser.parse_args()
    if options.export:
        return export(options.work, options.export)
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(options.work / "inductor"))  # compiled once, kept
    torch.set_num_threads(options.threads)
    (options.work / "pids").write_text(f"{os.getpid()}\n")
    return train(options.work, options.scale)


if __name__ == "__main__":
    main()
