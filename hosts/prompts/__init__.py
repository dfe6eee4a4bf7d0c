"""Make one conditioning for a whole timeline: conditioning (entries that know their shot), chunk_conditioning,
words.
"""
