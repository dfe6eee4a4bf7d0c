"""How an image-to-video network is shown the frames that are known: in channels beside the noise.

Wan I2V, FLF and Fun-Inpaint, CogVideoX I2V and HunyuanVideo I2V (v1, and SkyReels) read a second latent beside the
noisy one, clean at every step: the known frames in their places and a filling in all others; most read a mask, too,
that tells one from the other. Fun-Control's pictures have those of a driving video in front of them. Core makes both
from a conditioning's PICTURE and MASK (`concat_cond` of each class in comfy/model_base.py). HunyuanVideo I2V v2 has no
such channels: its first frame is clean among the noisy ones, and CLEAN_FIRST_FRAME in the conditioning has the network
take it so. Nothing in its weights tells it from text-to-video.

HunyuanVideo 1.5 has the channels in its text-to-video networks, too, and only a conditioning with a PICTURE tells that
they are used: without one they are zero. Wan 2.2 Animate's picture begins with its reference, and the frames that its
node calls continue_motion stand behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PICTURE = "concat_latent_image"  # a latent [B, C, F, H, W] as a LATENT holds it
MASK = "concat_mask"  # [B, 1 or 4, F, H, W], 0 where the picture is known and 1 where it is to be drawn
MASK_PLACE = "concat_mask_index"  # the channel of the picture before which the mask stands; 0 where nobody says it
CLEAN_FIRST_FRAME = "guiding_frame_index"


@dataclass(frozen=True)
class PictureChannels:
    """These are the channels of one network that are shown known frames.

    has_mask: whether some of them say which frames are known; without, a frame that is not `unknown` is. unknown: what
    the network finds in the place of frames that are not known, a number for each latent channel on the network's own
    scale; empty for zeros. only_beside_picture: whether known frames are shown there only to a prompt that comes with a
    picture. control: channels of a driving video, in front of the picture's own. led: whether a reference picture takes
    a latent frame of its own in front of the video's, there and in the latent.
    """

    has_mask: bool
    unknown: tuple[float, ...] = ()
    only_beside_picture: bool = False
    control: int = 0
    led: bool = False

    def used_by(self, options: Mapping) -> bool:
        """Tell whether known frames are shown here with what goes with a prompt, or with a conditioning entry."""
        return not self.only_beside_picture or options.get(PICTURE) is not None
