"""Choose what the network sees of a long latent: latent_blend (all segments in every step, each a segment_window),
chunk_handler (one chunk of a rollout), context_pass (finished frames once more), refine_chunks, progress (which of them
is being sampled). picture_channels shows known frames to image-to-video networks, lead_pictures puts one in front of
each segment, shot_noise gives shots noise of their own, devices hands segments to several GPUs. checks and finite stop
what is wrong, used_state gives back what other nodes' functions used up.
"""
