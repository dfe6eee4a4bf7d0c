"""Answer the pack's page (web/js): storyboard_check while somebody writes a storyboard, before anything is queued;
compare_vote when somebody has compared two runs; route is the place on ComfyUI's server where both are asked.
"""
