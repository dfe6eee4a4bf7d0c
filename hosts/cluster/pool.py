"""Hold the workers of a cluster, by Ray: each is an actor that Ray places, starts again when it dies, and gives its
unfinished take again.

They stay between two runs, and the models that they loaded with them, until another cluster is asked for or ComfyUI
ends; then Ray ends them.
"""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import folder_paths
from comfy.cli_args import args

from . import actor, files, ray_library
from .settings import MOST_WORKERS, ClusterError, ClusterSettings

METHODS_AT_ONCE = 4  # of an actor: a take, a report, a cancellation, and one to spare
SECONDS_TO_ANSWER = 3600.0  # to start a ComfyUI, or to hash all files of a graph
LISTEN_SECONDS = 0.5
OF_A_SERVER = ("--listen", "--port", "--cuda-device", "--default-device", "--database-url", "--temp-directory")
OF_AN_EDITOR = ("--auto-launch", "--windows-standalone-build", "--enable-manager")


class Pool:
    """These are the workers of one cluster. `actors` by number from 0; `about` says of each which machine it is on."""

    def __init__(self, settings: ClusterSettings):
        self.settings, self.wanted = settings, (settings.address, settings.workers)
        self.ray, self.own = ray_library.connect(settings.address, settings.workers)
        self.actors: list[Any] = []
        self.same: set[tuple] = set()  # files that were found to be the same on a worker
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def name(self, worker: int) -> str:
        """Return a worker as people know it."""
        return f"worker {worker + 1} ({self.about[worker]['host']}, {self.about[worker]['device']})"

    def check_files(self, prompt: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise ClusterError where a worker has not the files that a prompt names, or others under their names."""
        named = files.named_in(prompt)
        here = {one: files.stat_of(one) for one in named}
        for worker, one in enumerate(self.actors):
            unsure = [file for file in named if (worker, file, str(here[file])) not in self.same]
            if not unsure:
                continue
            there = dict(zip(unsure, self.get(one.stats.remote(unsure)), strict=True))
            if gone := [f"{kind}/{name}" for (kind, name), about in there.items() if about is None]:
                raise ClusterError(
                    f"{self.name(worker)} has no {', '.join(gone)}; copy the file there, into the folder of its kind"
                )
            unlike = [file for file in unsure if there[file] != here[file]]
            found = self.get(one.hashes.remote(unlike)) if unlike else []
            for file, theirs in zip(unlike, found, strict=True):
                if theirs != (ours := files.sha256_of(file)):
                    raise ClusterError(
                        f"{self.name(worker)} has another {'/'.join(file)}: sha256 {str(theirs)[:12]} there and "
                        f"{str(ours)[:12]} here; copy the file there"
                    )
            self.same |= {(worker, file, str(here[file])) for file in unsure}

    @contextmanager
    def cards(self) -> Iterator[None]:
        """Leave this machine's cards to the workers for a while, where they share them, and then take them back."""
        if self.own:
            _empty_cards()
        try:
            yield
        finally:
            if self.own:
                for one in self.actors:  # not waited for: after a Cancel a step is under way
                    one.rest.remote()

    def get(self, reference: Any) -> Any:
        """Return what a worker, or each in a list of them, answers; a Cancel is heard meanwhile.

        Raises ClusterError where it ends, or does not answer in time.
        """
        references = reference if isinstance(reference, list) else [reference]
        end = time.monotonic() + SECONDS_TO_ANSWER
        while self.ray.wait(references, num_returns=len(references), timeout=LISTEN_SECONDS)[1]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if time.monotonic() > end:
                raise ClusterError(f"a worker has not answered for {SECONDS_TO_ANSWER:.0f} s; look at the cluster")
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise ClusterError(f"a worker stopped: {_last_line(error)}") from error
        except self.ray.exceptions.RayError as error:
            raise ClusterError(
                f"a worker of Longreel Cluster is gone, or does not start: {_last_line(error)}"
            ) from error

    def close(self) -> None:
        """End the workers, and the cluster where it is this process's own."""
        actors, self.actors = self.actors, []
        if self.ray.is_initialized():  # else another pack has ended it
            for one in actors:
                self.ray.kill(one)
            if self.own:
                self.ray.shutdown()

    def _start(self) -> None:
        gpus = int(self.ray.cluster_resources().get("GPU", 0))
        count = self.settings.workers or gpus or len([node for node in self.ray.nodes() if node["Alive"]])
        if gpus and count > gpus:
            raise ClusterError(f"{count} workers are asked for, and the cluster has {gpus} GPUs; set workers to {gpus}")
        if count > MOST_WORKERS:
            raise ClusterError(f"{count} workers are asked for, and at most {MOST_WORKERS} are started; set fewer")
        logging.info("Longreel Cluster: starting %d workers", count)
        Worker = _by_value(self.ray).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=-1, max_concurrency=METHODS_AT_ONCE
        )
        self.actors = [Worker.remote(_comfyui(), _arguments()) for _ in range(count)]
        self.about = self.get([one.about.remote() for one in self.actors])


_open: list[Pool] = []  # of this process: one, or none


def pool_of(settings: ClusterSettings) -> Pool:
    """Return the workers that were asked for, those of the last run where it asked for the same."""
    wanted = settings.address, settings.workers
    if _open and not (_open[0].ray.is_initialized() and _open[0].wanted == wanted):
        close()
    if not _open:
        _open.append(Pool(settings))
    return _open[0]


def close() -> None:
    """End the workers of this process, where there are any."""
    while _open:
        _open.pop().close()


def _empty_cards() -> None:
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def _by_value(ray: ModuleType) -> Any:
    module = sys.modules[actor.Worker.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    return ray.remote(actor.Worker)


def _comfyui() -> str:
    """Return the folder of ComfyUI's main.py."""
    return str(Path(folder_paths.__file__).resolve().parent)


def _arguments() -> list[str]:
    """Return what a worker's main.py is given: what this one was, without what belongs to its server, browser and
    cards.
    """
    given, kept = list(sys.argv[1:]), []
    while given:
        word = given.pop(0)
        name = word.split("=", maxsplit=1)[0]
        if name in OF_A_SERVER:
            while name == word and given and not given[0].startswith("--"):
                given.pop(0)
        elif name not in OF_AN_EDITOR:
            kept.append(word)
    return kept if Path(sys.argv[0]).name == "main.py" else ["--cpu"] * bool(args.cpu)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
