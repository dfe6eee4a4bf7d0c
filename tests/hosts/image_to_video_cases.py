"""What image-to-video networks are shown, read at the network, and what core shows them of a single clip."""

from functools import cache
from typing import NamedTuple

import torch

import comfy.patcher_extension
import node_helpers
from comfy_extras.nodes_wan import WanFirstLastFrameToVideo, WanImageToVideo

from longreel.hosts.families import picture_channels_of
from longreel.hosts.sampling.joint import sample_attached
from tests import tiny_image_to_video
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of

SIZE, CELLS = 64, 8  # pixels, and latent cells


class Shown(NamedTuple):
    """One evaluation: x [B, channels with those beside the latent, F, H, W] and the arguments behind it, by name."""

    x: torch.Tensor
    kwargs: dict


class Watched:
    """A clone of a model that keeps what its network is shown."""

    def __init__(self, model):
        self.shown = shown = []
        self.model = model.clone()

        def keep(executor, x, t, *args, **kwargs):  # of the list alone, so that the model goes with its last user
            shown.append(Shown(x.clone(), {"args": args, **kwargs}))
            return executor(x, t, *args, **kwargs)

        self.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "watched", keep)


@cache
def loaded(name: str):
    return tiny_image_to_video.load(name)


def pictures(count: int = 1, seed: int = 0) -> torch.Tensor:
    """[count, H, W, 3] in 0..1."""
    return torch.rand((count, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed))


@cache
def of_node(pixel_frames: int, start: int = 1, end: int = 0) -> dict:
    """What core's own node puts into a conditioning, for so many pictures at the start and at the end:
    WanImageToVideo, or with an end WanFirstLastFrameToVideo."""
    node, more = (WanImageToVideo, {}) if not end else (WanFirstLastFrameToVideo, {"end_image": pictures(end, seed=1)})
    first = pictures(start) if start else None
    vae, conds = loaded("wan22_i2v_high").vae, ([[None, {}]], [[None, {}]])
    with torch.inference_mode():
        return node.execute(*conds, vae, SIZE, SIZE, pixel_frames, 1, start_image=first, **more).args[0][0][1]


def wired(conds, values: dict):
    """(positive, negative) with what a node says."""
    return tuple(node_helpers.conditioning_set_values(entries, values) for entries in conds)


def filling(name: str, frames: int) -> torch.Tensor:
    """What stands in unknown frames where no node says it, [1, C, frames, H, W] as a LATENT holds it; in front of it
    the control that is none."""
    model = loaded(name).model.model
    channels = picture_channels_of(model)
    numbers = [0.0] * channels.control + list(channels.unknown or [0.0] * 16)
    unknown = torch.tensor(numbers)[None, :, None, None, None].expand(1, len(numbers), frames, CELLS, CELLS).clone()
    return torch.cat([model.process_latent_out(part) for part in unknown.split(16, dim=1)], dim=1)


def of_shot(conds, shot: int):
    """(positive, negative) of one shot alone."""
    return tuple([entry for entry in entries if entry[1]["longreel_shot"] == shot] for entries in conds)


def clip(name: str, conds, values: dict, latent: torch.Tensor, mask: torch.Tensor | None, seed: int, steps: int = 1):
    """What core shows of a single clip whose conditioning carries `values`, sampled by core alone."""
    watched = Watched(loaded(name).model)
    conds = wired(conds, values)
    latent = {"samples": latent} if mask is None else {"samples": latent, "noise_mask": mask}
    with torch.inference_mode():
        settings = sampling_of(conds, sigmas_of(watched.model, steps), sampler_for(watched.model), 3.0, seed)
        sample_attached(watched.model, None, latent, settings, callback=lambda *_: None)
    return watched.shown
