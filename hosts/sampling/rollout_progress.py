"""Show the progress of a rollout: one bar over all chunks, a line of text, and a preview of the chunk that is being
made.
"""

import torch

import latent_preview

from ...engine.plan.rollout_chunks import Chunk
from ..windows.finite import check_finite
from ..windows.progress import ProgressText
from .rollout_task import RolloutTask


class RolloutProgress:
    """Show one bar over all chunks; the preview shows the middle of the chunk's new frames."""

    def __init__(self, task: RolloutTask):
        self.task, self.text = task, ProgressText()
        self.steps = max(1, len(task.sampling.sigmas) - 1)
        self.done = 0  # steps of the chunk's first expert
        self.core = latent_preview.prepare_callback(task.experts.high, self.steps * len(task.chunks))

    def callback(self, chunk: Chunk):
        """Return core's callback of each step, for one chunk and the expert that samples it now."""
        before, of_chunk = chunk.number * self.steps, self._steps_before()
        middle = chunk.known_frames + chunk.new_frames // 2

        def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
            at = of_chunk + step
            check_finite(x0, f"{self._where(chunk)}, step {at + 1}/{self.steps}")
            self.text.show(f"{self._where(chunk)}, step {at + 1}/{self.steps}")
            self.core(before + at, x0[:, :, middle : middle + 1], x, self.steps * len(self.task.chunks))
            self.done = at + 1

        return callback

    def skip(self, chunk: Chunk) -> None:
        """Say that a chunk was found on disk."""
        self.text.show(f"{self._where(chunk)}, found on disk")

    def _steps_before(self) -> int:
        """Return the steps of this chunk that another expert has made."""
        return self.done % self.steps

    def _where(self, chunk: Chunk) -> str:
        shots, chunks = self.task.timeline.shots, self.task.chunks
        return f"shot {chunk.shot + 1}/{len(shots)}, chunk {chunk.number + 1}/{len(chunks)}"
