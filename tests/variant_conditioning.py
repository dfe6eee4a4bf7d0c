"""What people wire to each of Wan's variants, made by core's own nodes for a timeline: control, sound, faces, poses.

Pictures, sound and faces are noise, other in every frame, so that a frame at another's place is seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from longreel.engine.plan.timeline import Timeline
from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import LoadedTiny

import_comfyui()

import node_helpers
from comfy_extras import nodes_camera_trajectory, nodes_scail, nodes_wan

Conds = tuple[list, list]


def noise(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Wired:
    """What a node is given: the prompts, the VAE and the sizes of a timeline, or of `frames` latent ones."""

    def __init__(self, loaded: LoadedTiny, timeline: Timeline, conds: Conds, frames: int | None = None):
        frames = timeline.latent_frames if frames is None else frames
        self.pixel_frames = timeline.facts.pixel_frames(frames)
        self.size = (timeline.height, timeline.width)
        self.given = {
            "positive": conds[0],
            "negative": conds[1],
            "vae": loaded.vae,
            "width": timeline.width,
            "height": timeline.height,
            "length": self.pixel_frames,
            "batch_size": 1,
        }

    def video(self, seed: int = 5) -> torch.Tensor:
        """Return noise [pixel frames, H, W, 3]."""
        return noise(self.pixel_frames, *self.size, 3, seed=seed)

    def picture(self, seed: int = 6) -> torch.Tensor:
        return noise(1, *self.size, 3, seed=seed)

    def sound(self, layers: int, width: int, per_second: float = 50.0, fps: float = 16.0) -> dict:
        """Return what an audio encoder makes of a sound as long as the video."""
        steps = int(self.pixel_frames / fps * per_second) + 8
        return {
            "encoded_audio_all_layers": [noise(1, steps, width, seed=layer) for layer in range(layers)],
            "audio_samples": steps * 320,
        }


def with_values(conds: Conds, values: dict) -> Conds:
    """Return both prompts with what a node says of all of them."""
    return tuple(node_helpers.conditioning_set_values(entries, values) for entries in conds)


def out(made) -> tuple:
    return made.args if hasattr(made, "args") else made


def vace(wired: Wired, reference: bool = False) -> Conds:
    masks = noise(wired.pixel_frames, *wired.size, seed=7).round()
    picture = wired.picture() if reference else None
    return out(
        nodes_wan.WanVaceToVideo.execute(
            **wired.given, strength=0.7, control_video=wired.video(), control_masks=masks, reference_image=picture
        )
    )[:2]


def fun_control(wired: Wired) -> Conds:
    return out(
        nodes_wan.WanFunControlToVideo.execute(**wired.given, start_image=wired.picture(), control_video=wired.video())
    )[:2]


def fun_control_22(wired: Wired) -> Conds:
    return out(
        nodes_wan.Wan22FunControlToVideo.execute(
            **wired.given, ref_image=wired.picture(), start_image=wired.picture(8), control_video=wired.video()
        )
    )[:2]


def camera(wired: Wired) -> Conds:
    given = wired.given
    embedding = out(
        nodes_camera_trajectory.WanCameraEmbedding.execute(
            "Pan Left", given["width"], given["height"], given["length"], speed=3.0, fx=0.5, fy=0.5, cx=0.5, cy=0.5
        )
    )[0]
    return out(
        nodes_wan.WanCameraImageToVideo.execute(**given, start_image=wired.picture(), camera_conditions=embedding)
    )[:2]


def humo(wired: Wired) -> Conds:
    sound = wired.sound(33, 1280, fps=25.0)
    return out(
        nodes_wan.WanHuMoImageToVideo.execute(**wired.given, ref_image=wired.picture(), audio_encoder_output=sound)
    )[:2]


def s2v(wired: Wired) -> Conds:
    return out(
        nodes_wan.WanSoundImageToVideo.execute(
            **wired.given,
            audio_encoder_output=wired.sound(25, 1024),
            ref_image=wired.picture(),
            control_video=wired.video(),
        )
    )[:2]


def animate(wired: Wired, face: bool = True, **more) -> Conds:
    given = {
        "continue_motion_max_frames": 5,
        "video_frame_offset": 0,
        "reference_image": wired.picture(),
        "face_video": wired.video(9) if face else None,
        "pose_video": wired.video(),
        "background_video": wired.video(10),
        "character_mask": noise(wired.pixel_frames, *wired.size, seed=11).round(),
    }
    return out(nodes_wan.WanAnimateToVideo.execute(**wired.given, **{**given, **more}))[:2]


def scail(wired: Wired) -> Conds:
    given = {"replacement_mode": False, "pose_strength": 1.0, "pose_start": 0.0, "pose_end": 1.0}
    given |= {"video_frame_offset": 0, "previous_frame_count": 5}
    return out(
        nodes_scail.WanSCAILToVideo.execute(
            **wired.given, **given, pose_video=wired.video(), reference_image=wired.picture()
        )
    )[:2]


def scail2(wired: Wired) -> Conds:
    given = {"replacement_mode": False, "pose_strength": 1.0, "pose_start": 0.0, "pose_end": 1.0}
    given |= {"video_frame_offset": 0, "previous_frame_count": 5}
    return out(
        nodes_scail.WanSCAILToVideo.execute(
            **wired.given,
            **given,
            pose_video=wired.video(),
            pose_video_mask=wired.video(12).round(),
            reference_image=wired.picture(),
            reference_image_mask=wired.picture(13).round(),
        )
    )[:2]


def phantom(wired: Wired) -> Conds:
    positive, negative, _ = out(
        nodes_wan.WanPhantomSubjectToVideo.execute(**wired.given, images=noise(2, *wired.size, 3, seed=14))
    )[:3]
    return positive, negative


def text(wired: Wired) -> Conds:
    return wired.given["positive"], wired.given["negative"]


WIRED: dict[str, Callable[[Wired], Conds]] = {
    "vace": vace,
    "fun_control": fun_control,
    "fun_control_22": fun_control_22,
    "camera": camera,
    "camera_22": camera,
    "humo": humo,
    "humo_17": humo,
    "s2v": s2v,
    "animate": animate,
    "scail": scail,
    "scail2": scail2,
    "phantom": phantom,
    "skyreels_v2": text,
    "flow_rvs": text,
}


def conditioning_of(name: str, loaded: LoadedTiny, timeline: Timeline, conds: Conds, **options) -> Conds:
    """Return (positive, negative) of a timeline with what is wired to this variant."""
    return WIRED[name](Wired(loaded, timeline, conds), **options)
