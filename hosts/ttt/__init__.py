"""TTT layers inside core's networks (One-Minute Video, arXiv 2504.05298).

Reading order: apply (layers on a MODEL), forward (one evaluation of the network with them), segments (a block segment
by segment), timeline (a whole video in one forward); wan, cogvideox, cogvideox_block, hunyuan_video and ltxv (each
family's blocks); student, builder and samples (training them).
"""
