"""Load node packs with ComfyUI's own loader in this process and print what each cost, as one line of JSON.

    python tests/load_pack.py COMFYUI PACK...

Everything that a server has imported before it comes to custom nodes is imported first, so the seconds and the new
modules are the pack's own. Seconds are the processor's. Other work on the machine lengthens them too, by half and more;
so `share` says what they are of the seconds that ComfyUI itself took in this process until it came to the first pack.
Python's garbage collector leaves alone what was there before: a look through all of ComfyUI, 0.3 seconds, falls into
the load of one pack or another by chance.
"""

import asyncio
import gc
import json
import sys
import time

comfyui, *packs = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path[0] = comfyui  # was this file's folder

import comfy.options

comfy.options.enable_args_parsing()

import nodes
import server


async def load(pack: str, core_seconds: float) -> dict:
    ids, modules = set(nodes.NODE_CLASS_MAPPINGS), set(sys.modules)
    start = time.process_time()
    loaded = await nodes.load_custom_node(pack)
    seconds = time.process_time() - start
    own_name = pack.replace(".", "_x_")  # what ComfyUI calls the pack's module
    new = {name.split(".")[0] for name in set(sys.modules) - modules if not name.startswith(own_name)}
    return {
        "loaded": loaded,
        "share": seconds / core_seconds,
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - ids),
        "modules": sorted(new),
    }


async def main() -> None:
    server.PromptServer(asyncio.get_running_loop())
    await nodes.init_builtin_extra_nodes()
    core_seconds = time.process_time()
    gc.collect()
    gc.freeze()
    for pack in packs:
        print(json.dumps(await load(pack, core_seconds)), flush=True)


asyncio.run(main())
