"""These modules work on attention: they share keys and values, edit prompts, and read where words are seen (DiTCtrl).

Source: arXiv 2412.18597.

Reading order: kv_share, prompt_edit, prompt_mix; focus_map and words (where a word is seen), focus_picture (drawn);
rotary (keys moved in time).
"""
