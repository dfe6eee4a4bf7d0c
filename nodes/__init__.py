"""Everything that Longreel adds to ComfyUI's menu, in menu order."""

from comfy_api.latest import ComfyExtension, io

from ..hosts.web.route import register
from .alpha_space import LongreelAlphaSpaceSampler
from .anchor_frame import LongreelAnchorFrame
from .anchor_lora import LongreelLoadAnchorLoRA
from .cluster import LongreelCluster
from .compare import LongreelCompare
from .decode_to_video import LongreelDecodeToVideo
from .demo_model import LongreelDemoModel
from .encode import LongreelEncode
from .focus_preview import LongreelFocusPreview
from .kv_share import LongreelKVShare
from .latent_blend import LongreelLatentBlend
from .load_memory import LongreelLoadMemory
from .long_memory import LongreelLongMemory
from .pair import LongreelPair
from .plan import LongreelPlan
from .prompt_edit import LongreelPromptEdit
from .refine import LongreelRefine
from .report import LongreelReport
from .sampler import LongreelSampler
from .save_ttt import LongreelSaveTTT
from .short_memory import LongreelShortMemory
from .storyboard import LongreelLoadStoryboard, LongreelSaveStoryboard, LongreelStoryboard
from .train_anchor_lora import LongreelTrainAnchorLoRA
from .train_ttt import LongreelTrainTTT
from .ttt import LongreelApplyTTT, LongreelLoadTTT, LongreelTTTSampler
from .ttt_dataset import LongreelTTTDataset

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
    LongreelLoadMemory,
    LongreelShortMemory,
    LongreelLongMemory,
    LongreelAnchorFrame,
    LongreelLoadAnchorLoRA,
    LongreelTrainAnchorLoRA,
    LongreelPair,
    LongreelCluster,
    LongreelSampler,
    LongreelLoadTTT,
    LongreelApplyTTT,
    LongreelTTTSampler,
    LongreelRefine,
    LongreelTTTDataset,
    LongreelTrainTTT,
    LongreelSaveTTT,
    LongreelAlphaSpaceSampler,
    LongreelDecodeToVideo,
    LongreelReport,
    LongreelCompare,
    LongreelDemoModel,
]


class LongreelExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of the pack."""

    async def on_load(self) -> None:
        register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
