"""A test-only node pack: core's text encoder loaders build small encoders, as tests/ready_workflows/sizes.py says.

Core reads the sizes of an encoder from constants of its own, unless the loader's model_options name others; no node
does. This pack names them, so that Load CLIP loads stand-ins of a few kilobytes by the way of the real files.
"""

import functools

import comfy.sd

from tests.ready_workflows.sizes import model_options, without_eyes


def _small(load_clip):
    @functools.wraps(load_clip)
    def load(*args, **kwargs):
        kwargs["model_options"] = {**kwargs.get("model_options", {}), **model_options()}
        with without_eyes():
            return load_clip(*args, **kwargs)

    return load


comfy.sd.load_clip = _small(comfy.sd.load_clip)
NODE_CLASS_MAPPINGS = {}
