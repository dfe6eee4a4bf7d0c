"""Read and write what the user writes: shots with prompts, seconds and transitions, and the files they come in.

Reading order: board (the storyboard itself), rules (what makes one valid), files (which format a file is), csv_file,
ttt_video (the scene lists of One-Minute Video), media (pictures that a shot names). It knows no model.
"""
