"""Make one conditioning for a whole timeline: conditioning (entries that know their shot), chunk_conditioning,
time_axis (what of it has frames), words.
"""
