"""Measure a finished video: metrics (a boundary, evenness), reach (joints and the worst pair), flicker (broken frames),
still (frozen, looping), drift; video_file (frames into a file) with its soundtrack.
"""
