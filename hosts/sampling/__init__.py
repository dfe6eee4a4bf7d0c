"""Sample a timeline: joint (all segments in every step), rollout (chunk after chunk), whole (one forward), refine.

refine_steps holds refine's inner loop, alpha_space CogVideoX's samplers, identity what a finished chunk depends on,
planning the facts of a MODEL on their way to a plan.
"""
