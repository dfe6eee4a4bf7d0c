"""A latent through a VAE's decoder piece by piece, in memory that does not grow with the video.

What a decoder must remember of the past stays in a stream's state from piece to piece; the files decode_*.py say how
each VAE is walked. Here is what they share: the loop over pieces, and what happens when a piece does not fit on the
device: smaller pieces, then tiles of the picture (tiles.py), each with a stream of its own whose state waits in main
memory. It does not know what is done with the frames.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from comfy import model_management

from ..types import VAE
from .tiles import TILES, Place, places, put_together

logger = logging.getLogger(__name__)


class Stream(ABC):
    """One latent, or one tile of it, on its way through the decoder."""

    state: Any  # what is remembered between two pieces: tensors in lists, tuples and dicts

    @abstractmethod
    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Take the next latent frames, [1, C, f, H, W] on the device, and yield the pixel frames that are ready,
        [1, c, f', H', W'] in the network's own range; after the `last` latent frames, all that are left."""


class Decoder(ABC):
    """How one kind of VAE is decoded a few latent frames at a time."""

    chunk = 1  # latent frames at once, unless the user says another number
    smallest_chunk = 1  # fewer do not take less memory, or change too much

    def __init__(self, vae: VAE):
        """Hold `vae`, one that `fits`."""
        self.vae, self.network = vae, vae.first_stage_model

    @staticmethod
    @abstractmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds exactly this network; a subclass of it may decode in its own way."""

    @abstractmethod
    def stream(self, chunk: int) -> Stream:
        """Return a stream at its beginning, for pieces of `chunk` latent frames."""

    @abstractmethod
    def told(self, latent_frames: int, chunk: int) -> str:
        """Return a sentence on how a take of this length is decoded, and whether it equals core's VAE Decode."""

    def pieces(self, latent_frames: int, chunk: int) -> list[int]:
        """Return the latent frames of each push."""
        return cut(latent_frames, chunk, chunk)

    def prepared(self, latent: Tensor) -> Tensor:
        """Return the whole latent as the decoder is to see it."""
        return latent

    def memory_bytes(self, shape: torch.Size) -> int:
        """Return the bytes that the device needs for a piece of latent of this shape."""
        return int(self.vae.memory_used_decode(shape, self.vae.vae_dtype))


def cut(total: int, first: int, step: int) -> list[int]:
    """Return lengths that sum to `total`: `first`, then `step` and what is left."""
    lengths = [min(first, total)]
    while (left := total - sum(lengths)) > 0:
        lengths.append(min(step, left))
    return lengths


def streamed_frames(decoder: Decoder, latent: Tensor, chunk: int, said: list[str]) -> Iterator[Tensor]:
    """Yield the pixel frames of `latent` [1, C, F, H, W] in order: [f, H', W', c], 0..1, on the VAE's output device.

    What does not fit into memory is decoded again from the start (a decoder needs its whole past) in smaller pieces,
    then in tiles, without yielding a frame twice; `said` gets a line each time. Raises torch's own error when even the
    smallest tiles do not fit.
    """
    with torch.no_grad():
        latent = decoder.prepared(latent)
    yielded = 0
    attempts = _attempts(decoder, latent, chunk)
    for number, (pieces, tile) in enumerate(attempts):
        position = 0
        try:
            for pixels in _walk(decoder, latent, pieces, tile):
                known = max(0, yielded - position)
                position += pixels.shape[0]
                if known < pixels.shape[0]:
                    yielded = position
                    yield pixels[known:]
            return
        except RuntimeError as error:
            model_management.raise_non_oom(error)
            if number + 1 == len(attempts):
                raise
        # Out of the except block: while the error lives, its traceback keeps the tensors that filled the memory.
        model_management.soft_empty_cache()
        following, tiled = attempts[number + 1]
        said.append(
            f"Out of memory decoding {_what(pieces, tile)}; going on "
            + (f"in tiles of {tiled} pixels." if tiled else f"with {following}.")
        )
        logger.warning("%s", said[-1])


def _what(pieces: int, tile: int | None) -> str:
    return f"{pieces} latent frames at a time" + (f" in tiles of {tile} pixels" if tile else "")


def _attempts(decoder: Decoder, latent: Tensor, chunk: int) -> list[tuple[int, int | None]]:
    """Latent frames at once and pixels of a tile, None for the whole picture, in the order in which they are tried."""
    attempts: list[tuple[int, int | None]] = [(chunk, None)]
    while chunk > decoder.smallest_chunk:
        chunk = max(decoder.smallest_chunk, chunk // 2)
        attempts.append((chunk, None))
    pixels = max(latent.shape[3:]) * decoder.vae.spacial_compression_decode()
    return attempts + [(chunk, tile) for tile in TILES if tile < pixels]


def _walk(decoder: Decoder, latent: Tensor, chunk: int, tile: int | None) -> Iterator[Tensor]:
    """Decode from the first frame to the last. Yields [f, H', W', c] in 0..1."""
    vae = decoder.vae
    stride = vae.spacial_compression_decode()
    parts = places(latent.shape[3], latent.shape[4], tile // stride if tile else None, stride)
    streams = [decoder.stream(chunk) for _ in parts]
    start = 0
    for length in decoder.pieces(latent.shape[2], chunk):
        stop = start + length
        piece, last = latent[:, :, start:stop], stop == latent.shape[2]
        start = stop
        if len(parts) == 1:
            for pixels in _pushed(decoder, streams[0], piece, last):
                yield vae.process_output(pixels)[0].movedim(0, -1)
        elif (pixels := _tiled(decoder, streams, piece, last, parts)) is not None:
            yield vae.process_output(pixels)[0].movedim(0, -1)


def _tiled(decoder: Decoder, streams: list[Stream], piece: Tensor, last: bool, parts: list[Place]) -> Tensor | None:
    """Push one piece through every tile's stream and blend what comes out; None where nothing does."""
    device = decoder.vae.device

    def tiles() -> Iterator[Tensor | None]:
        for stream, place in zip(streams, parts, strict=True):
            stream.state = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, stream.state)
            pixels = list(_pushed(decoder, stream, place.of(piece), last))
            stream.state = tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, stream.state)
            yield torch.cat(pixels, 2) if pixels else None

    return put_together(tiles(), parts, piece.shape[3:])


def _pushed(decoder: Decoder, stream: Stream, piece: Tensor, last: bool) -> Iterator[Tensor]:
    """Push latent frames that lie anywhere, and yield [1, c, f, H', W'] on the output device, not yet in 0..1."""
    vae = decoder.vae
    frames = None
    while True:
        model_management.throw_exception_if_processing_interrupted()
        with torch.no_grad(), model_management.cuda_device_context(vae.device):
            # Asked anew each time, because whoever takes the frames may have loaded something else meanwhile.
            model_management.load_models_gpu(
                [vae.patcher], memory_required=decoder.memory_bytes(piece.shape), force_full_load=vae.disable_offload
            )
            if frames is None:
                frames = stream.push(piece.to(device=vae.device, dtype=vae.vae_dtype), last)
            pixels = next(frames, None)
            if pixels is None:
                return
            pixels = pixels.to(device=vae.output_device, dtype=vae.vae_output_dtype(), copy=True)
        yield pixels
