"""Choose what the network sees of a long latent: latent_blend (all segments in every step), chunk_handler (one chunk of
a rollout), refine_chunks, progress (which of them is being sampled).
"""
