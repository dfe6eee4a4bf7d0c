"""Find Ray, and connect it: imported where a cluster is asked for and nowhere else.

Ray lets whoever reaches its ports run code. So a cluster of this machine's own is bound to the loopback address, all of
its ports, and Ray's token is on (Ray 2.52, RAY_AUTH_MODE), which a user may turn off for a cluster of theirs. There is
no dashboard, and nothing is reported to Ray's makers.
"""

import os
import sys
from types import ModuleType
from typing import Any

from .settings import LOCAL, ClusterError

OLDEST = (2, 52)  # the first one with a token
REQUIREMENT = "ray>=2.52"  # the extra `cluster` of pyproject.toml
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # at 0 Ray binds to 127.0.0.1, as it does on macOS
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}  # where the user has not said otherwise
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1", "[::1]")
OBJECT_STORE_BYTES = 512 * 2**20  # chunks on their way; a chunk of 720p is 20 MB


def environment(loopback: bool) -> dict[str, str]:
    """Return the variables that Ray is to have; loopback: no other machine is to reach it."""
    return {
        **{name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()},
        LOOPBACK_ONLY: str(1 - loopback),
    }


def import_ray(loopback: bool = True) -> ModuleType:
    """Return Ray's module, set to bind as asked. Raises ClusterError, with the command that installs it."""
    if sys.platform == "win32":
        raise ClusterError(
            "Longreel Cluster needs Linux or macOS, and this is Windows, where Ray makes no clusters; take the node "
            "off, or run ComfyUI in WSL"
        )
    os.environ.update(environment(loopback))
    try:
        import ray
        from ray._private import ray_constants
    except ImportError as error:
        raise ClusterError(
            f"Longreel Cluster needs Ray, and this Python has none ({error}); install the pack's extra, "
            f'pip install "longreel[cluster]", or Ray itself: {sys.executable} -m pip install "{REQUIREMENT}"'
        ) from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        raise ClusterError(
            f"this Python has Ray {ray.__version__}, which lets anybody in who reaches its ports; update it: "
            f'{sys.executable} -m pip install "{REQUIREMENT}"'
        )
    ray_constants.ENABLE_RAY_CLUSTER = not loopback  # read at import, which may have been for another cluster
    return ray


def is_loopback(address: str) -> bool:
    """Tell whether a cluster at this address, host:port, is one that no other machine reaches."""
    return address == LOCAL or address.rpartition(":")[0] in LOOPBACK_HOSTS


def connect(address: str, workers: int) -> tuple[ModuleType, bool]:
    """Return Ray, connected, and whether the cluster is this process's own.

    workers: for which a cluster of this machine's own must have room where it has no GPUs. A connection that another
    pack made is used as it is. Raises ClusterError.
    """
    own = address == LOCAL
    ray = import_ray(is_loopback(address))
    if ray.is_initialized():
        return ray, False
    asked: dict[str, Any] = {"address": "local" if own else address}
    if own:
        cores = max(workers, os.cpu_count() or 1)
        asked |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(**asked, namespace="longreel", log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "a cluster on this machine cannot be started" if own else f"no cluster answers at {address}"
        raise ClusterError(
            f"Longreel Cluster: {where} ({_first_line(error)}); see docs/cluster.md, and for another machine's cluster "
            f"run `python -m longreel.cluster join` here first"
        ) from error
    return ray, own


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
