"""Measure a finished video: metrics (a boundary, evenness), reach (joints and the worst pair), flicker (broken frames),
still (frozen, looping), drift, mawe (warp error). frames_of_file reads a file of any length; by_frame, warp and cuts
measure its frames as they come, figures turns that into figures of shots and joints, report_text and plot show them.
video_file writes frames into a file with its soundtrack.
"""
