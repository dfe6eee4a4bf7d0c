"""Features between the segments of a timeline: kv_share, prompt_edit, focus and its preview."""
