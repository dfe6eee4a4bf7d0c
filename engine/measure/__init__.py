"""Figures of a finished video: metrics (of frames), video_file (frames out of a file)."""
