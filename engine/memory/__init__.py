"""Trained memories of a rollout (StreamingT2V, arXiv 2403.14773): cam (what just happened), apm (how it began), files."""
