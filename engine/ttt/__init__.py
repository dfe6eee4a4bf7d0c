"""Train at test time: layers learn a video while it is generated (One-Minute Video, arXiv 2504.05298).

Reading order: order (who is read when), layer, block (forward and reversed, through gates), local_attention; weights,
files, convert and published (files of the pack, and of ttt-video); lact (large chunks, arXiv 2505.23884) and baselines
(for comparison), in a TTT layer's place; units (parts that several processes divide). The inner loop itself is in
kernels/.

Shape letters are those of the paper, and stand in engine/__init__.py.
"""
