"""Take steps exactly as their papers' code takes them. The golden tests run them; no node does.

ditctrl_pairs: DiTCtrl's blending of two prompts. streamingt2v_ddim: StreamingT2V's second enhancer.
streamingt2v_guidance: the guidance of its first. zero_snr: the noise levels of CogVideoX, DiTCtrl and ttt-video.
"""
