"""Say what a user asked of Longreel Cluster."""

from dataclasses import dataclass

LOCAL = ""  # address of a cluster of this machine's own
MOST_WORKERS = 256


@dataclass(frozen=True)
class ClusterSettings:
    """address: host:port of a Ray cluster that this machine has joined, LOCAL to start one here. workers: 0 for one per
    GPU. keep: whether workers, and the models that they loaded, stay for the next run.
    """

    address: str = LOCAL
    workers: int = 0
    keep: bool = True


class ClusterError(RuntimeError):
    """Say that a cluster cannot make what was asked for, and what to do."""
