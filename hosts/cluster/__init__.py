"""Make the takes of a rollout on several machines, by Ray: settings, ray_library (where Ray is and how it is bound),
actor (the process that Ray starts, which starts a ComfyUI), inside (what that ComfyUI does), prompt and files (what it
is asked to build its model from), pool (the workers), takes (who makes what, for Longreel Sampler).

Ray places, restarts and repeats; nothing here does. Only the ComfyUI that asks writes into the run folder.
"""
