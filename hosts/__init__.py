"""This is the only package that imports ComfyUI: it brings what the engine knows into core's models, samplers and VAEs.

Rooms, from the ground up: families (what a model is), attention (the one tap per block), prompts, windows (what the
network sees of a long latent), features (KV Share, Prompt Edit, Focus Preview), training, ttt, anchor, memory, sampling
(joint, rollout, whole, refine), video (from latents to a file), measure (what a finished video is like), web (what the
page asks the server). demo_model loads the bundled model, standalone finds ComfyUI where none is running, keys names
what the pack puts into ComfyUI's containers, types what it takes from them.
"""

from . import standalone

standalone.prepare()  # before the first `import comfy`

from .families import block_count, facts_of, family_of  # noqa: E402 (ComfyUI must be found first)

__all__ = ["block_count", "facts_of", "family_of"]
