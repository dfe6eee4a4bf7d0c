"""Make one video out of noise: the arithmetic of samplers and of the overlaps between segments.

Reading order: latent_blend (segments into one video), denoising (what a step computes), alpha_space (the samplers of
CogVideoX), refine (a finished video made again in part), channel_statistics (colours held to those of the beginning).
"""
