"""The model families: one file of facts each, and what can be asked of all of them.

wan, cogvideox, hunyuan_video and ltxv say what planning must know, where attention happens and where tokens stand. sites
holds the words they use for it, video_tokens where trained memories enter.
"""
