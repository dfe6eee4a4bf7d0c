"""Features between the segments of a timeline: kv_share, prompt_edit with its original, focus and its preview."""
