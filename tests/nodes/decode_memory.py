"""Peak memory of the node for two lengths, in a process of its own: prints both peaks in bytes.

python -m tests.nodes.decode_memory VAE_FILE SHORTER LONGER      (lengths in latent frames)
"""

import resource
import sys
import tempfile
from types import SimpleNamespace

import torch

from tests.comfy_inprocess import import_comfyui

WIDTH, HEIGHT = 64, 64


def main(vae_file: str, lengths: list[int]) -> None:
    import_comfyui()
    import comfy.sd
    import comfy.utils
    import folder_paths

    from longreel.nodes.decode_to_video import LongreelDecodeToVideo

    torch.set_num_threads(1)
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(vae_file))
    LongreelDecodeToVideo.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.set_output_directory(folder)
        for frames in lengths:
            samples = torch.randn(1, 16, frames, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))
            video = LongreelDecodeToVideo.execute(vae, {"samples": samples}, 16.0, "memory", 30).result[0]
            # The highest so far, so the longer video can only add to what the shorter one took.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            print(video.get_frame_count(), peak, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(length) for length in sys.argv[2:]])
