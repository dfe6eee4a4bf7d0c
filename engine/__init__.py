"""What the project knows, in plain torch; it has never heard of ComfyUI.

Reading order: storyboard (what the user writes), facts (what a model family is), timeline (the one in the numbers of
the other), latent_blend (how segments become one video), prompt_mix, plan_report; then alpha_space and refine
(samplers), pair_blend (DiTCtrl's step as published), metrics, video_file.

Shape letters: B batch, C channels, F frames (latent ones unless a name says pixel), H W height and width in latent
cells, L text tokens, N video tokens, h heads, d head width.
"""
