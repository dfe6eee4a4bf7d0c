"""The one tap per block: patching hands attention through all features, keys_values holds what one segment keeps,
step_caches gives each window a cache of skipped steps.
"""
