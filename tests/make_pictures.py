"""Draws the pictures of the workflow gallery: runs every bundled workflow in a real ComfyUI and lays out its frames.

    python -m tests.make_pictures          (in the environment that dev.py made)

Writes workflows/<name>.jpg, the thumbnail that ComfyUI's template browser shows, and web/docs/<name>.webp, the moving
picture of the README. Every pixel comes from the video that the workflow saved.
"""

from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.bundled_workflows import PATHS, WORKFLOWS, load
from tests.comfy_process import ComfyProcess

COLUMNS, ROWS, GAP = 4, 3, 4  # of a thumbnail, and pixels between its frames
FRAME_WIDTH = 128  # pixels of one frame in a thumbnail
CLIP_WIDTH = 256
DOCS = WORKFLOWS.parent / "web" / "docs"


def frames_of(file: Path) -> tuple[list[np.ndarray], float]:
    """All frames [H, W, 3] of a video and its frames per second."""
    with av.open(file) as video:
        rate = float(video.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)], rate


def enlarged(frame: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(frame)
    return image.resize((width, round(width * image.height / image.width)), Image.LANCZOS)


def thumbnail(frames: list[np.ndarray]) -> Image.Image:
    """COLUMNS x ROWS frames, evenly spaced in time, left to right and down."""
    picked = [frames[round(i * (len(frames) - 1) / (COLUMNS * ROWS - 1))] for i in range(COLUMNS * ROWS)]
    tiles = [enlarged(frame, FRAME_WIDTH) for frame in picked]
    step_x, step_y = tiles[0].width + GAP, tiles[0].height + GAP
    sheet = Image.new("RGB", (COLUMNS * step_x - GAP, ROWS * step_y - GAP), (24, 24, 24))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % COLUMNS * step_x, i // COLUMNS * step_y))
    return sheet


def main() -> None:
    with ComfyProcess() as comfy:
        for path in PATHS:
            (file,) = [f for f in comfy.files(comfy.run(load(path), 600)) if f.suffix == ".mp4"]
            frames, rate = frames_of(file)
            thumbnail(frames).save(path.with_suffix(".jpg"), quality=88)
            clip = [enlarged(frame, CLIP_WIDTH) for frame in frames]
            clip[0].save(
                DOCS / f"{path.stem}.webp",
                save_all=True,
                append_images=clip[1:],
                duration=round(1000 / rate),
                loop=0,
                quality=70,
            )
            print(f"{path.stem}: {len(frames)} frames -> {path.with_suffix('.jpg')}, {DOCS / (path.stem + '.webp')}")


if __name__ == "__main__":
    main()
