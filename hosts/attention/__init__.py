"""The one tap per block: patching hands attention through all features, kv_cache keeps what one call leaves
for another, main_memory brings it back from there, ledger says what is kept; step_caches gives each window a cache of
skipped steps, compiled keeps all of it out of the graphs of torch.compile.
"""
