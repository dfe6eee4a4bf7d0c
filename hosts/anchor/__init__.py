"""Anchor frames (Anchored Video Generation, arXiv 2512.16371): a picture that a video shows at its second.

Reading order: place (all that the node does), picture (from IMAGE to latent), frame (anchors on a MODEL), run (one call
of a sampler with them); wan, cogvideox, hunyuan_video and kandinsky (frame-time adapters: a time for every frame, or
what the network takes in its place); lora and student (a LoRA that obeys anchors, loaded and trained).
"""
