"""Anchor frames (Anchored Video Generation, arXiv 2512.16371): a picture that a video shows at its second.

Reading order: frame (anchors on a MODEL), run (one call of a sampler with them), picture (from IMAGE to latent); wan,
cogvideox and hunyuan_video (a time for every frame); lora and student (a LoRA that obeys anchors, loaded and trained).
"""
