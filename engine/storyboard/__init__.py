"""Read and write what the user writes: shots with prompts, seconds and transitions, and the files they come in.

Reading order: board (the storyboard itself), fields, carried and rules (what makes one valid), faults (mistakes, all
said at once), files (which format a file is), json_text, keys (what a misspelt one means), csv_file, yes_no, ttt_video
(the scene lists of One-Minute Video), story_scripts (the stories of two benchmarks), writing, media (pictures that a
shot names). It knows no model.
"""
