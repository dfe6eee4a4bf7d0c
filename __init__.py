"""Longreel for ComfyUI: tells it where the web files are and, when asked, which nodes there are."""

import logging

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The pack's extension. ComfyUI logs a failure here as one line, so the traceback is logged before it goes on."""
    try:
        from .nodes import LongreelExtension

        return LongreelExtension()
    except Exception:
        logging.exception("Longreel could not load its nodes")
        raise
