"""This package holds what the project knows, in plain torch; it never imports ComfyUI.

Reading order, by rooms:

    storyboard/  what the user writes: shots, prompts, anchors; as JSON, TOML, CSV or ttt-video's scene list
    plan/        a storyboard in the numbers of a model family: timeline, segments, chunks, anchors, the report
    sampling/    how segments become one video: latent blend, alpha-space sampler, refinement, noise levels
    attention/   what is done to attention: shared keys and values, edited prompts, focus maps, rotary positions
    ttt/         test-time training: the layer, its block, the order of a scan, files, what it is compared with
    memory/      trained memories of a rollout: what just happened (CAM), how it began (APM)
    lora/        adapters of low rank, and the names in LoRA files
    runs/        runs that survive: folders of finished chunks, content hashes, files that are whole or not there
    measure/     metrics of videos, measured as the frames of a file come, and the file that frames are written into
    compare/     votes between runs of one storyboard, and the Elo ratings that they imply
    published/   two methods as their authors published them, which the golden tests alone run
    settings     tables of settings, checked against a dataclass
    finite       numbers that are none, in what files hold
    factory_arguments  where the weights of a module are made and in which dtype

Which room may import which is a table in tests/test_layers.py.

Shape letters: B batch, C channels, F frames (latent ones unless a name says pixel), H W height and width in latent
cells, L text tokens, N video tokens, S tokens of any kind, h heads, d head width. In ttt/, as in the paper: B batch,
L all tokens, S those of a slab, C model width, H heads, D head width, K tokens of a mini-batch, M width inside the
small network.
"""
