"""Keep latents and conditionings on disk, so that clips and prompts are encoded once and not in every step.

A file is named by the SHA-256 of everything that its content depends on: a latent by the clip's bytes, which of its
frames, the size, and the video encoder; a conditioning by the prompt and the text encoder. So a clip that changed is
encoded again, several runs and several processes share one folder, and what is there is never out of date. A file is
there whole or not at all: whoever was killed goes on where he stopped. Nothing is ever deleted here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..engine.finite import not_finite
from ..engine.runs.whole_file import save_whole
from .clip_files import LATENT_NAME
from .dataset import Geometry, Part, read_latent, read_pixels
from .student import TEXT, Conditioning, Encoder


@dataclass(frozen=True)
class Cache:
    """This is the cache of a data set. folder: made where it is not there yet."""

    folder: Path
    encoder: Encoder
    geometry: Geometry

    def prepare(self, parts: Iterable[Part], tell: Callable[[int, int], None] | None = None) -> int:
        """Encode what is not there yet, and the empty prompt, and return how many files were made.

        tell(done, all) is called before each part; what it raises stops the work, and nothing that is done is lost.
        Raises ValueError where an encoder returns another shape than the data set has, or text of a shape of its own
        for some prompt, OSError where the disk is full.
        """
        parts, made = list(parts), 0
        for done, part in enumerate(parts):
            if tell is not None:
                tell(done, len(parts))
            for prompt in ("", *part.prompts):
                made += self._make_text(prompt)
            made += self._make_latent(part)
        return made

    def latent(self, part: Part) -> torch.Tensor:
        """Return the latent [C, F, h, w] float32. Raises ValueError where it was not prepared."""
        if part.clip.is_latent:
            return read_latent(part, self.geometry)
        return _read(self._latent_path(part), part.clip.name)[LATENT_NAME].float()

    def conditioning(self, prompts: tuple[str, ...]) -> Conditioning:
        """Return the conditioning of a story of n prompts: every tensor [n, ...]. Raises ValueError where they were not
        prepared, or where the encoder made tensors of other names or shapes of one than of the empty prompt.
        """
        read = {prompt: _read(self._text_path(prompt), repr(prompt)) for prompt in {"", *prompts}}
        for prompt, found in read.items():
            shapes, empty = ({name: list(value.shape) for name, value in given.items()} for given in (found, read[""]))
            if shapes != empty:
                raise ValueError(
                    f"the text encoder made {shapes} of the prompt {prompt!r} and {empty} of the empty "
                    f"one; shorten the prompt, so that both are padded to one length"
                )
        return {name: torch.stack([read[prompt][name] for prompt in prompts]) for name in read[""]}

    def _make_latent(self, part: Part) -> bool:
        if part.clip.is_latent or self._latent_path(part).exists():
            return False
        latent = self.encoder.encode_video(read_pixels(part, self.geometry))
        wanted = self.geometry.latent_shape(part.segments)
        if tuple(latent.shape) != wanted:
            raise ValueError(
                f"the video encoder made a latent {list(latent.shape)} of {part.clip.path.name} and the "
                f"data set's are {list(wanted)}; use the VAE of this model's family"
            )
        if not bool(latent.isfinite().all()):
            raise ValueError(
                f"the video encoder made {int((~latent.isfinite()).sum())} of {latent.numel()} numbers of "
                f"{part.clip.path.name} infinite or not a number; encode in float32 (--fp32-vae)"
            )
        save_whole(
            self._latent_path(part),
            {LATENT_NAME: latent.detach().cpu().contiguous()},
            {"clip": part.clip.name, "first": str(part.first), "segments": str(part.segments)},
        )
        return True

    def _make_text(self, prompt: str) -> bool:
        if self._text_path(prompt).exists():
            return False
        found = self.encoder.encode_text(prompt)
        if TEXT not in found:
            raise ValueError(
                f"the text encoder made the tensors {', '.join(found) or '(none)'} of a prompt and no {TEXT!r}; "
                f"give the tokens' [T, D] this name"
            )
        if (wrong := not_finite(found)) is not None:
            raise ValueError(
                f"the text encoder made of the prompt {prompt!r}: {wrong}; encode in float32 (--fp32-text-enc)"
            )
        save_whole(
            self._text_path(prompt),
            {name: value.detach().cpu().contiguous() for name, value in found.items()},
            {"prompt": prompt},
        )
        return True

    def _latent_path(self, part: Part) -> Path:
        geometry = self.geometry
        return self._path(
            "latents",
            [
                self.encoder.video_identity,
                part.clip.digest,
                geometry.width,
                geometry.height,
                part.first * geometry.step_pixel_frames,
                geometry.pixel_frames(part.segments),
            ],
        )

    def _text_path(self, prompt: str) -> Path:
        return self._path("texts", [self.encoder.text_identity, prompt])

    def _path(self, kind: str, depends_on: list) -> Path:
        address = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
        return Path(self.folder) / kind / address[:2] / f"{address}.safetensors"


def _read(path: Path, what: str) -> dict[str, torch.Tensor]:
    try:
        found = load_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"the cache has no file of {what} ({path}); prepare the cache again") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole cache file of {what} ({error}, {path.stat().st_size} bytes); delete it, and it is "
            f"made again"
        ) from error
    if (wrong := not_finite(found)) is not None:  # kept by a Longreel that did not look, or written by something else
        raise ValueError(f"{path} of {what}: {wrong}; delete it, and it is made again")
    return found
