"""From latents to a video: decode (of any length, in flat memory), decode_wan (with the VAE's own cache), file."""
