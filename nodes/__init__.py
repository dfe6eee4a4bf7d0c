"""Everything that Longreel adds to ComfyUI's menu, in menu order."""

from comfy_api.latest import ComfyExtension, io

NODES: list[type[io.ComfyNode]] = []


class LongreelExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
