"""Measure a finished video: metrics (of frames), video_file (frames into a file)."""
