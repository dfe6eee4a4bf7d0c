"""The keys under which this pack puts things into ComfyUI's own containers, all in one place.

Six containers take them: `transformer_options` of a MODEL's options, the `model_conds` and the other entries of a
conditioning, the attachments of a ModelPatcher, its additional models, its wrappers, and a LATENT. One constant serves
several of them where the same feature owns the entry in each. The strings stay as they are: those in
`transformer_options` and in conditionings enter the content hashes of chunks on disk (hosts/sampling/identity.py).
"""

# The tap of attention (hosts/attention/patching.py)

TAP = "longreel"
"""Wrappers of OUTER_SAMPLE, CALC_COND_BATCH, DIFFUSION_MODEL and PREPARE_SAMPLING. `attach` writes them with the first
feature of a clone; `reserve_memory` puts the last one last again. They stay with the clone."""

FEATURES = "longreel_features"
"""transformer_options: tuple of the Features of a clone. `attach` writes it, and it stays with the clone; Prompt Edit
takes itself out of it for its source pass and puts it back (hosts/features/prompt_edit.py)."""

RUNNING = "longreel_run"
"""transformer_options: Running, the runs of all features. `_run` writes it when a sampler starts and removes it when
it ends, interrupted or not."""

SEGMENT_AND_ROLE = "longreel_seen"
"""transformer_options: (number of the segment, role) that is evaluated. Whoever cuts a latent or asks for a role
writes it: Latent Blend, the chunk handler and Prompt Edit; it goes with the copy of the options of that
evaluation."""

EVALUATION = "longreel_evaluation"
"""transformer_options: Evaluation. `_announce` writes it into the copy of the options that one evaluation sees."""

NOISE_LEVEL = "longreel_noise_level"
"""transformer_options: (timestep, its level as a number of the host). Whoever shows a latent in windows or several
times writes it for one evaluation (hosts/attention/noise_level.py) and removes it."""

VISIT = "longreel_visit"
"""transformer_options: Visit, the site of one attention call. A hook of the attention module writes it into the copy
of the options that this module sees."""

COMPILED = "longreel_compiled"
"""Wrapper of APPLY_MODEL, which stays with the clone (hosts/attention/compiled.py)."""

# Features and windows

PROMPT_EDIT = "longreel_prompt_edit"
"""transformer_options: Notes, what the source pass has left. Prompt Edit's OUTER_SAMPLE wrapper writes it and
removes it. Also that wrapper's key, which stays with the clone."""

LATENT_BLEND = "longreel_latent_blend"
"""Wrapper of OUTER_SAMPLE, and with sound of PREPARE_SAMPLING, which stay with the clone; also the name of the schedule
of windows that core shows."""

ASKED = "longreel_asked"
"""Wrapper of OUTER_SAMPLE of the clone of a second expert that is only asked whether it would refuse
(hosts/sampling/experts.py); the clone is thrown away."""

# Conditioning (hosts/prompts/conditioning.py)

SHOT = "longreel_shot"
"""Conditioning entry: int, the shot's number from 0. Longreel Encode writes it, and it stays."""

ROLE = "longreel_role"
"""Conditioning entry: "positive" or "negative". Longreel Encode writes it, and it stays."""

WORDS = "longreel_words"
"""Conditioning entry: tuple of Spoken, the prompts that the entry's text was made of. Longreel Encode writes it; a
blend of shots writes those of all its parts."""

UNCUT = "longreel_uncut"
"""Conditioning entry: Uncut of hosts/prompts/chunk_conditioning.py, what the entry's values were before they were cut
to a chunk. It is written where one was cut, for the chunk's sampling, and is no part of what a chunk depends on."""

SOUND = "longreel_sound"
"""Conditioning entry: (encoder, shot from 0, file) of the first sound that the entry's audio_embed is of. Longreel
Encode writes it, and it stays; it is no part of what a chunk depends on."""

MIXED_HOOKS = "longreel_mixed_hooks"
"""Entry of a guider's conditioning: dict, the hooks of each mix that begins with this entry. `mixed_hooks` of
hosts/prompts/shot_lora.py fills it; it goes with the entry, when its sampling ends."""

# LATENT (hosts/sampling/rollout.py)

TIMELINE = "longreel_timeline"
"""LATENT: Timeline, as a rollout made it, where locked shots that keep their frames moved the boundaries of the plan.
The sampler writes it, decoding and refining take it instead of the one that is wired, and it stays with the latent."""


# TTT (hosts/ttt)

TTT_LAYERS = "longreel_ttt"
"""transformer_options: {block: TTTBlock}, written by hosts/ttt/apply.py and, with layers that train, by
hosts/ttt/student.py. Also the additional model that holds them, and the wrapper of DIFFUSION_MODEL that evaluates
in segments. All stay with the clone."""

TTT_TRAINED_SEGMENT = "longreel_ttt_trained_segment"
"""transformer_options: int, the latent frames of the segments that the layers were trained on. Written by
hosts/ttt/apply.py; stays with the clone."""

TTT_RECOMPUTE = "longreel_ttt_recompute"
"""transformer_options: bool, whether blocks are recomputed for the backward pass. Written by hosts/ttt/student.py
into the options of one forward."""

TTT_UNITS = "longreel_ttt_units"
"""transformer_options: {block: Unit}, where processes divide the weights. Written by hosts/ttt/student.py into the
options of its own clone."""

TTT_SEGMENT_INFO = "longreel_ttt_timeline"
"""model_conds: what hosts/ttt/forward.py is told about the segments whose texts stand in one entry. Written by
hosts/ttt/timeline.py and hosts/ttt/student.py for one forward; `evaluate` takes it out before the network runs."""

TTT_WHOLE_TIMELINE = "longreel_ttt_whole_timeline"
"""Wrappers of OUTER_SAMPLE and PREPARE_SAMPLING of a clone that is shown a whole timeline; they stay with it."""

# Anchors (hosts/anchor)

ANCHORS = "longreel_anchor"
"""Attachment: tuple of Anchored, and the wrapper of OUTER_SAMPLE that works with them. Written by
hosts/anchor/frame.py; both stay with the clone."""

ANCHOR_TRAINED = "longreel_anchor_trained"
"""Attachment: True on a MODEL that carries a LoRA trained for anchors. Written by hosts/anchor/lora.py; stays."""

ANCHOR_RUN = "longreel_anchor_run"
"""Wrappers of SAMPLER_SAMPLE, PREDICT_NOISE and DIFFUSION_MODEL, written and removed around one call of a sampler by
hosts/anchor/run.py."""

ANCHOR_KEEP_STRENGTHS = "longreel_anchor_hold"
"""model_conds: each latent frame's keep strength, [1, 1, F, 1, 1] of 0..1. hosts/anchor/run.py writes it into the
guider's conditioning for one call of a sampler, and takes it out of the arguments before the network runs."""

ANCHOR_TRAINING = "longreel_anchor_training"
"""Wrapper of DIFFUSION_MODEL of the clone that hosts/anchor/student.py trains; stays with it."""

# Memory (hosts/memory)

KNOWN_FRAMES = "longreel_clean_frames"
"""Wrapper of DIFFUSION_MODEL, which shows known frames without noise; written by hosts/memory/known_frames.py, stays
with the clone."""

IN_CONTEXT_PASS = "longreel_memory_looks"
"""transformer_options: True in the copy that the network sees while CAM has it evaluate other frames than those
drawn."""

CAM = "longreel_cam"
"""transformer_options: Carried; also the additional model and the wrapper of DIFFUSION_MODEL of the memory. Written
by hosts/memory/trained_memory.carry; all stay with the clone."""

CAM_FRAMES = "longreel_cam_frames"
"""transformer_options: the conditioning frames [B, C, F, H, W], where a trainer gives them; in the copy of one
forward."""

APM = "longreel_apm"
"""transformer_options, additional model and wrapper, as CAM has them, for APM."""

APM_ANCHOR = "longreel_apm_anchor"
"""transformer_options: the anchor [B, C, F, H, W], where a trainer gives it; in the copy of one forward."""
