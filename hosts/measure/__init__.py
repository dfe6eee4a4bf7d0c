"""Measure a finished video in ComfyUI: film (what is measured), clip (what core's CLIP models see in it), report (all
meters over all frames).
"""
