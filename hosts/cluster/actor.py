"""Be the process that Ray starts: an ordinary ComfyUI with its packs, loaded as a library, that makes takes.

Ray sends this class by value, so it holds on to nothing of the pack, which has another name in every ComfyUI. What it
asks of the pack once that is loaded is inside.py. No port is opened by it: ComfyUI's server is made and not started.

LONGREEL_CLUSTER_COMFYUI and LONGREEL_CLUSTER_ARGUMENTS, a JSON list, say on machines that `python -m longreel.cluster
join` added where their ComfyUI is and what its main.py is given; elsewhere they are those of the ComfyUI that asks.
"""


class Worker:
    """comfyui: the folder of main.py. arguments: of main.py."""

    def __init__(self, comfyui: str, arguments: list[str]):
        import importlib
        import json
        import os
        import sys
        import tempfile

        comfyui = os.environ.get("LONGREEL_CLUSTER_COMFYUI") or comfyui
        arguments = json.loads(os.environ.get("LONGREEL_CLUSTER_ARGUMENTS") or json.dumps(arguments))
        self.temporary = tempfile.TemporaryDirectory(prefix="longreel-worker-")  # each ComfyUI empties its own
        own = ["--temp-directory", self.temporary.name, "--database-url", "sqlite:///:memory:"]
        self.streams = sys.stdout, sys.stderr  # ComfyUI's log takes their buffers over, which would close with them
        sys.path.insert(0, comfyui)
        sys.argv = ["main.py", *arguments, *own]
        _, server, _ = importlib.import_module("main").start_comfyui()
        classes = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
        if "LongreelCluster" not in classes:
            raise RuntimeError(f"the ComfyUI in {comfyui} has no Longreel with Longreel Cluster; install or update it")
        pack = classes["LongreelCluster"].__module__.removesuffix(".nodes.cluster")
        take = importlib.import_module(f"{pack}.nodes.cluster").LongreelClusterTake
        classes[take.GET_SCHEMA().node_id] = take
        self.inside = importlib.import_module(f"{pack}.hosts.cluster.inside").Inside(server)

    def about(self) -> dict:
        """Return process, host and devices of the worker."""
        return self.inside.about()

    def stats(self, files: list) -> list:
        """Return what the system says of each [folder, name]; None where there is none."""
        return self.inside.stats(files)

    def hashes(self, files: list) -> list:
        """Return the sha256 of each [folder, name]."""
        return self.inside.hashes(files)

    def make(self, order: dict) -> dict:
        """Make a take, and return its chunks, {"chunks": {file name: bytes}}, or {"error": text}."""
        return self.inside.make(order)

    def report(self, order_id: str, known: list) -> dict:
        """Return how far an order is, with its finished chunks that are not in `known`."""
        return self.inside.report(order_id, known)

    def rest(self) -> None:
        """Take the models off the card; they stay in main memory."""
        self.inside.rest()

    def cancel(self, order_id: str) -> None:
        """Stop an order after the step that it is in, or before it begins."""
        self.inside.cancel(order_id)
