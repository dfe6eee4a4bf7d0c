"""These are the trained memories of a rollout (StreamingT2V, arXiv 2403.14773): CAM, APM, files.

Reading order: cam (what just happened), apm (how it began), files (how both are stored).
"""
