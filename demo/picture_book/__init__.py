"""The picture book: what the demo model is to show next, and how it learns it.

Reading order: sprites (the things), scenes (the places), movements, book (a page of them), draws (pages at random),
prompts (their sentences); reader (how a clip is read back) and page_check (which of its frames are broken); running,
train_vae, encode, train_dit, train (the steps of training). make_sprites drew sprites.png.
"""
