"""Plan a storyboard in the numbers of one model, in plain integers and without tensors.

Reading order: facts (what a model family is), timeline (shots to frames to segments), rollout_chunks (the same timeline
chunk after chunk), anchor (where a picture stands), spans (of steps, of noise), report (what the user reads of it),
asked (what the node asks for), rows (the same as data, for pictures).
"""
