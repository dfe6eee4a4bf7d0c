"""Answer the storyboard editor (web/js) while somebody writes, before anything is queued.

storyboard_check is the answer, route the place on ComfyUI's server where it is asked for.
"""
