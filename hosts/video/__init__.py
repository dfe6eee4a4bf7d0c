"""From latents to a video: tiles, stream (what decoders share), decode_* (each VAE), decode (of any length), file."""
