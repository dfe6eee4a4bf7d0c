"""The one tap per block. feature is what a feature is, patching hands attention through all of them; kv_cache keeps
what one call leaves for another, main_memory brings it back, ledger says what is kept; attention_size, card, reserve
and remedies plan the memory of a run before it begins; neighbours names nodes that keep features from their work,
compiled keeps them out of the graphs of torch.compile; noise_level is read once, step_caches gives each window its own.
"""
