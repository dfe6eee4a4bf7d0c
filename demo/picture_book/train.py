"""Trains the whole picture-book model, step after step; the same command goes on where it was stopped.

    python -m longreel.demo.picture_book.train WORK [--threads 2] [--scale 1.0]
    python -m longreel.demo.picture_book.train WORK --export FOLDER
    python -m longreel.demo.picture_book.train WORK --begin FOLDER

The steps are the VAE (train_vae.py), its finishing (encode.py), the transformer with its text encoder stage by stage
(train_dit.py), each behind the encoding of its clips (encode.py), and the VAE's decoder alone once more. Each logs to
WORK/NAME.log and keeps a checkpoint at WORK/NAME.pt; SIGTERM saves and ends. It uses a GPU where there is one, and
leaves its process number in WORK/pids; beside other work, use `nice -n 19`.

`--export` writes what has been trained so far as the three files that ComfyUI loads, as many as there are. They say
how far they have come, and `--begin` goes on from them in a new WORK, on another machine too: from the averaged weights
in float16, with optimisers that begin anew.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open

from .. import twin
from . import encode, running, train_dit, train_vae


def train(work: Path, scale: float) -> None:
    """Do whatever step is not done."""
    stop = running.Stop()
    done = (work / encode.VAE_FILE).exists() or train_vae.train(work, train_vae.HOURS * scale, stop)
    for name, stage in train_dit.STAGES.items():
        done = done and encode.encode_groups(work, stop, files_for(stage, scale))
        done = done and train_dit.train(work, stop, scale, until=name)
    done = done and encode.finish_decoder(work, train_vae.DECODER_HOURS * scale, stop)
    running.log(work, "train", finished=bool(done))


def files_for(stage: train_dit.Stage, scale: float) -> dict[str, int]:
    """How many files of which group a stage trains on, and the one that every stage is validated on."""
    groups = {group for group, _ in stage.mixture}
    return {train_dit.PAIR_GROUP: 1} | {name: max(1, round(encode.GROUPS[name].files * scale)) for name in groups}


def export(work: Path, folder: Path, checkpoint: str = "dit.pt") -> None:
    """Write the averaged weights in float16, under the names of the demo model's files, and how far they have come."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / encode.VAE_FILE, folder / twin.VAE)
    if not (work / checkpoint).exists():
        return
    saved = torch.load(work / checkpoint, map_location="cpu")
    come = {"step": saved["step"], "seconds": saved["seconds"]}
    twin.write(folder, saved["ema"], train_dit.SHAPE["heads"], {"training": json.dumps(come)})


def begin(work: Path, folder: Path) -> None:
    """Make WORK one that has come as far as the files that `export` wrote to `folder`."""
    if (work / encode.VAE_FILE).exists():
        raise SystemExit(f"{work} has a trained VAE already: name a new folder to begin from {folder}.")
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / twin.VAE, work / encode.VAE_FILE)
    if not (folder / twin.TRANSFORMER).exists():
        return
    with safe_open(folder / twin.TRANSFORMER, "pt") as file:
        come = json.loads(file.metadata()["training"])
    learner = train_dit.new_learner((twin.transformer(folder), twin.text(folder)))
    learner.step, learner.seconds = come["step"], come["seconds"]
    learner.save(work / "dit.pt")


def main() -> None:
    """Read the command line, and train or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of the planned time and number of clips, for a trial")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the three files there and stop")
    parser.add_argument("--begin", type=Path, metavar="FOLDER", help="make WORK from exported files and stop")
    options = parser.parse_args()
    if options.export:
        return export(options.work, options.export)
    if options.begin:
        return begin(options.work, options.begin)
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(options.work / "inductor"))  # compiled once, kept
    torch.set_num_threads(options.threads)
    (options.work / "pids").write_text(f"{os.getpid()}\n")
    return train(options.work, options.scale)


if __name__ == "__main__":
    main()
