"""Longreel Cluster: the takes of a rollout on several GPUs or machines, by Ray."""

from comfy_api.latest import io

from ..hosts.cluster import inside
from ..hosts.cluster.prompt import TAKE
from ..hosts.cluster.ray_library import import_ray, is_loopback
from ..hosts.cluster.settings import LOCAL, MOST_WORKERS, ClusterSettings
from ..hosts.sampling.rollout_take import sample_take
from ..hosts.sampling.settings import Sampling
from .sampler import LongreelSampler, experts_of
from .sockets import ClusterSocket


class LongreelCluster(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelCluster",
            display_name="Longreel Cluster",
            category="Longreel/sampling",
            description="Has the takes of a rollout made at the same time, on several GPUs or machines, by Ray. Wire "
            "it to cluster of Longreel Sampler.",
            search_aliases=[
                "ray",
                "distributed",
                "multi gpu",
                "several machines",
                "workers",
                "parallel",
                "raylight",
                "cluster",
            ],
            inputs=[
                io.String.Input(
                    "address",
                    default=LOCAL,
                    tooltip=(
                        "Of a Ray cluster that this machine has joined: host:port. Empty: a cluster of this machine's "
                        "GPUs, which no other machine reaches."
                    ),
                ),
                io.Int.Input(
                    "workers",
                    default=0,
                    min=0,
                    max=MOST_WORKERS,
                    tooltip=(
                        "How many takes are made at the same time, 1 to 256; each worker holds the model. 0: one for "
                        "each GPU of the cluster, or for each machine without GPUs."
                    ),
                ),
                io.Boolean.Input(
                    "keep_workers",
                    default=True,
                    tooltip="On: workers stay, with the model loaded, for the next run. Off: they end with each run.",
                ),
            ],
            outputs=[ClusterSocket.Output(display_name="cluster", tooltip="For Longreel Sampler.")],
        )

    @classmethod
    def execute(cls, address: str, workers: int, keep_workers: bool) -> io.NodeOutput:
        settings = ClusterSettings(address.strip(), workers, keep_workers)
        import_ray(is_loopback(settings.address))  # what is missing is said before models are loaded
        return io.NodeOutput(settings)


class LongreelClusterTake(io.ComfyNode):
    """This stands in the place of Longreel Sampler in a worker's graph (hosts/cluster/prompt.py) and makes one take. It
    is no node of the menu: a worker alone knows it.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = LongreelSampler.define_schema()
        schema.node_id, schema.is_output_node = TAKE, True
        schema.inputs = [*schema.inputs, io.String.Input("order", tooltip="Which order this is.")]
        return schema

    @classmethod
    def execute(cls, model, timeline, latent, order, mode=None, blend="", **inputs) -> io.NodeOutput:
        """Make the take of the order that is under way; the other inputs are those of Sampling, by its names."""
        making = inside.Making.now
        sample_take(model, timeline, latent, Sampling(**inputs), making.order, making.keep, **experts_of(mode))
        return io.NodeOutput(latent, order)
