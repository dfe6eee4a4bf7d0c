"""Learn TTT layers here; nothing of it is needed to sample, and nothing of it imports ComfyUI.

Reading order: student (what a model must offer), stages (the paper's recipe as data), config (a run as a TOML file);
dataset (clips with storyboards), collect (clips that come through wires), cache (what the encoders made of them);
draws, schedule, parallel, shards, optimise; checkpoint, report; live_bytes, plan (what a run will cost), estimate
(before there is one); trainer (one run from plan to file), ttt (the command).
"""
