"""The embedded demo model: its world, its text encoder, its weights and how they were trained.

Reading order: world (what it can show), detector (how a clip is read back), text_encoder (how it listens),
vae_net and dit_net (Wan 2.1's networks in a form that trains fast), train_vae, encode_clips, train_dit; stories
(long ones), encode_stories, ttt_student (how its TTT layers are trained), export_ttt.
Sampling uses none of the nets here: ComfyUI loads the weights with its own Wan classes.
"""
