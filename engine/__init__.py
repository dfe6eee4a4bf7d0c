"""What the project knows, in plain torch; it has never heard of ComfyUI.

Reading order: storyboard (what the user writes), facts (what a model family is), timeline (the one in the numbers of
the other), latent_blend (how segments become one video), prompt_mix, plan_report; then alpha_space and refine
(samplers), pair_blend (DiTCtrl's step as published), metrics, video_file. Test-time training: ttt_order (who is read
when), ttt_layer, ttt_block (there and back through gates), local_attention, ttt_weights. Trained memories of a rollout:
cam (what just happened), apm (how it began), memory_files; refine_ddim is StreamingT2V's second enhancer.

Shape letters: B batch, C channels, F frames (latent ones unless a name says pixel), H W height and width in latent
cells, L text tokens, N video tokens, h heads, d head width. In the ttt_ files, as in the paper: B batch, L all tokens,
S those of a slab, C model width, H heads, D head width, K tokens of a chunk, M width inside the small network.
"""
