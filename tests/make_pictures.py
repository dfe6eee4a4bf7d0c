"""Draws the pictures of the workflow gallery: runs every bundled workflow in a real ComfyUI and lays out its frames.

    python -m tests.make_pictures [NAME ...]       (in the environment that dev.py made; all without a name)

Writes workflows/<name>.jpg, the square card that ComfyUI's template browser shows, and web/docs/<id>.webp, the moving
picture of README and help pages, under the workflow's own id, which numbers in file names do not change. Every pixel
comes from the videos that the workflow saved.
"""

import argparse
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from tests.bundled_workflows import PATHS, WORKFLOWS, load
from tests.comfy_process import ComfyProcess

CARD, GAP = 512, 4  # pixels of a card's side, and between its frames
CLIP_WIDTH = 256
DOCS = WORKFLOWS.parent / "web" / "docs"


def frames_of(file: Path) -> tuple[list[np.ndarray], float]:
    """All frames [H, W, 3] of a video and its frames per second."""
    with av.open(file) as video:
        rate = float(video.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)], rate


def side_by_side(videos: list[tuple[list[np.ndarray], float]]) -> tuple[list[np.ndarray], float]:
    """The videos of a workflow as one, which lie beside each other in the order of their names."""
    frames = zip(*(frames for frames, _ in videos), strict=True)
    return [np.concatenate(row, axis=1) for row in frames], videos[0][1]


def enlarged(frame: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(frame)
    return image.resize((width, round(width * image.height / image.width)), Image.LANCZOS)


def card(frames: list[np.ndarray]) -> Image.Image:
    """Draw a square of frames, evenly spaced in time, left to right and down: four square ones, or two or three wide
    ones, which show a before and an after side by side, below each other."""
    height, width = frames[0].shape[:2]
    columns, rows = (2, 2) if width < 1.5 * height else (1, round(width / height))
    moments = np.linspace(0, len(frames) - 1, columns * rows + 2)[1:-1]  # neither the first nor the last frame
    side_x, side_y = ((CARD - (count - 1) * GAP) // count for count in (columns, rows))
    sheet = Image.new("RGB", (CARD, CARD), (24, 24, 24))
    for number, moment in enumerate(moments):
        tile = ImageOps.fit(Image.fromarray(frames[round(moment)]), (side_x, side_y), Image.LANCZOS)
        sheet.paste(tile, (number % columns * (side_x + GAP), number // columns * (side_y + GAP)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows, without .json")
    names = parser.parse_args().names
    with ComfyProcess() as comfy:
        for path in [path for path in PATHS if not names or path.stem in names]:
            moving = DOCS / f"{load(path)['id']}.webp"
            files = sorted(file for file in comfy.files(comfy.run(load(path), 600)) if file.suffix == ".mp4")
            frames, rate = side_by_side([frames_of(file) for file in files])
            card(frames).save(path.with_suffix(".jpg"), quality=88)
            clip = [enlarged(frame, CLIP_WIDTH) for frame in frames]
            clip[0].save(moving, save_all=True, append_images=clip[1:], duration=round(1000 / rate), loop=0, quality=70)
            print(f"{path.stem}: {len(frames)} frames -> {path.with_suffix('.jpg')}, {moving}")


if __name__ == "__main__":
    main()
