"""Everything that Longreel adds to ComfyUI's menu, in menu order."""

from comfy_api.latest import ComfyExtension, io

from .alpha_space import LongreelAlphaSpaceSampler
from .decode_to_video import LongreelDecodeToVideo
from .demo_model import LongreelDemoModel
from .encode import LongreelEncode
from .focus_preview import LongreelFocusPreview
from .kv_share import LongreelKVShare
from .latent_blend import LongreelLatentBlend
from .plan import LongreelPlan
from .prompt_edit import LongreelPromptEdit
from .sampler import LongreelSampler
from .storyboard import LongreelLoadStoryboard, LongreelSaveStoryboard, LongreelStoryboard
from .train_ttt import LongreelSaveTTT, LongreelTrainTTT, LongreelTTTDataset
from .ttt import LongreelApplyTTT, LongreelLoadTTT, LongreelTTTSampler

NODES: list[type[io.ComfyNode]] = [
    LongreelStoryboard,
    LongreelLoadStoryboard,
    LongreelSaveStoryboard,
    LongreelPlan,
    LongreelEncode,
    LongreelLatentBlend,
    LongreelKVShare,
    LongreelFocusPreview,
    LongreelPromptEdit,
    LongreelSampler,
    LongreelLoadTTT,
    LongreelApplyTTT,
    LongreelTTTSampler,
    LongreelTTTDataset,
    LongreelTrainTTT,
    LongreelSaveTTT,
    LongreelAlphaSpaceSampler,
    LongreelDecodeToVideo,
    LongreelDemoModel,
]


class LongreelExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
