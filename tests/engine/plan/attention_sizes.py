"""An attention's size for tests of what features keep (engine/plan/needs.py)."""

from longreel.engine.plan.needs import AttentionSize


def attention_size(blocks: int = 6, **changes) -> AttentionSize:
    """Two prompts, four heads of 16 channels in float32, three tokens for each of five latent frames, seven of text."""
    given = {
        "rows": 2,
        "heads": 4,
        "head_width": 16,
        "itemsize": 4,
        "frames": 5,
        "patch_frames": 1,
        "tokens_of_frame": 3,
        "text_tokens": 7,
        "sites": tuple((kind, block) for block in range(blocks) for kind in ("self", "cross")),
    }
    return AttentionSize(**given | changes)
