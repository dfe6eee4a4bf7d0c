"""Remember in a rollout: short_memory and long_memory (nodes), known_frames, kv_memory, and the trained cam and
apm.
"""
