"""Keep runs that survive: a folder for each, with a record, a lock, and one file per finished chunk.

Reading order: folder (what a run does with it), record, lock, name, chunk_file, content_hash (what a chunk depends on),
whole_file (files that appear whole or not at all), unfinished (what grows until then, and what a death leaves of it),
shot_states (what became of each shot, in one word).
"""
