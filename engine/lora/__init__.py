"""Read and train LoRAs of many origins: keys (under which names they come), low_rank (what they add to a weight)."""
