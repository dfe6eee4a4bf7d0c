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
from safetensors.torch import load_file, save_file

from . import encode, running, train_dit, train_vae

# The exported file of the VAE, and those of the transformer and the text encoder by the beginning of their names here.
VAE_EXPORT = "shapeworld_vae.safetensors"
EXPORTS = {"dit.": "shapeworld_t2v.safetensors", "text.": "shapeworld_text.safetensors"}


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
    shutil.copy(work / encode.VAE_FILE, folder / VAE_EXPORT)
    if not (work / checkpoint).exists():
        return
    saved = torch.load(work / checkpoint, map_location="cpu")
    config = {"num_heads": train_dit.SHAPE["heads"], "text_dim": train_dit.SHAPE["text_width"]}
    training = {"step": saved["step"], "seconds": saved["seconds"]}
    metadata = {"config": json.dumps({"transformer": config}), "training": json.dumps(training)}
    for part, file in EXPORTS.items():
        state = {k.removeprefix(part): v.half().contiguous() for k, v in saved["ema"].items() if k.startswith(part)}
        save_file(state, folder / file, metadata=metadata)


def begin(work: Path, folder: Path) -> None:
    """Make WORK one that has come as far as the files that `export` wrote to `folder`."""
    if (work / encode.VAE_FILE).exists():
        raise SystemExit(f"{work} has a trained VAE already: name a new folder to begin from {folder}.")
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / VAE_EXPORT, work / encode.VAE_FILE)
    if not (folder / EXPORTS["dit."]).exists():
        return
    with safe_open(folder / EXPORTS["dit."], "pt") as file:
        training = json.loads(file.metadata()["training"])
    weights = {part + k: w.float() for part, name in EXPORTS.items() for k, w in load_file(folder / name).items()}
    learner = train_dit.new_learner()
    learner.both.load_state_dict(weights)
    learner.ema = {name: p.detach().clone() for name, p in learner.parameters.items()}
    learner.step, learner.seconds = training["step"], training["seconds"]
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
