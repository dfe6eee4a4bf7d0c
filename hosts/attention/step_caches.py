"""A cache of skipped steps for each window: core's EasyCache and LazyCache remember one latent from step to step.

Both put what they remember into transformer_options under one key, made afresh for each sampling. Where a step shows
the network several windows, each needs a memory of its own, or one is compared with another. Caches of other packs are
not known here.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

CACHE = "easycache"  # core's key in transformer_options, for both nodes
OF_FORWARDS = "uuid_cache_diffs"  # only EasyCache has it, which skips forwards of the network; LazyCache skips steps


def skips_forwards(options: dict) -> bool:
    """Return whether transformer_options carry core's EasyCache."""
    return hasattr(options.get(CACHE), OF_FORWARDS)


class StepCaches:
    """These are the caches of one run of a sampler, by window."""

    def __init__(self) -> None:
        self._of_windows: dict[Hashable, Any] = {}

    @contextmanager
    def of(self, window: Hashable, options: dict, model_sampling: Any) -> Iterator[None]:
        """Lend transformer_options the cache of a window, while it is shown to the network."""
        shared = options.get(CACHE)
        if not hasattr(shared, "prepare_timesteps"):
            yield
            return
        if window not in self._of_windows:
            self._of_windows[window] = shared.clone().prepare_timesteps(model_sampling)
        options[CACHE] = self._of_windows[window]
        try:
            yield
        finally:
            options[CACHE] = shared
            skipped = [cache.total_steps_skipped for cache in self._of_windows.values()]
            shared.total_steps_skipped = sum(skipped) // len(skipped)  # core logs it when the sampling ends
