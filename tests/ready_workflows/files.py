"""The model files of the ready workflows: their names, folders and public links, as core's own templates carry them.

ComfyUI reads them from the `models` of a loader's properties and offers to download what is missing. Source: the
templates of comfyui-workflow-templates 0.11.27 (the name of the one is at each file); core has none for CogVideoX.
"""

from dataclasses import dataclass

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class ModelFile:
    """A file in a folder below ComfyUI's models, and where it can be had."""

    name: str
    directory: str
    url: str

    def as_property(self) -> dict[str, str]:
        """Return the entry of a loader's `models`."""
        return {"name": self.name, "url": self.url, "directory": self.directory}


def _of(repository: str, folder: str):
    """Return a maker of the files that a repository keeps in split_files, under ComfyUI's own folder names."""

    def file(name: str, directory: str) -> ModelFile:
        return ModelFile(name, directory, f"{HUB}/{repository}/resolve/main/{folder}{directory}/{name}")

    return file


_wan21 = _of("Comfy-Org/Wan_2.1_ComfyUI_repackaged", "split_files/")
_wan22 = _of("Comfy-Org/Wan_2.2_ComfyUI_Repackaged", "split_files/")
_hunyuan15 = _of("Comfy-Org/HunyuanVideo_1.5_repackaged", "split_files/")

UMT5 = _wan21("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders")  # text_to_video_wan
WAN_VAE = _wan22("wan_2.1_vae.safetensors", "vae")  # video_wan2_2_14B_t2v
WAN_22_VAE = _wan22("wan2.2_vae.safetensors", "vae")  # video_wan2_2_5B_ti2v
WAN_21_SMALL = _wan21("wan2.1_t2v_1.3B_fp16.safetensors", "diffusion_models")  # text_to_video_wan
WAN_22_SMALL = _wan22("wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models")  # video_wan2_2_5B_ti2v
VACE = _wan21("wan2.1_vace_1.3B_fp16.safetensors", "diffusion_models")  # video_wan_vace_14B_v2v
VACE_4_STEPS = ModelFile(  # video_wan_vace_14B_v2v
    "Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32.safetensors",
    "loras",
    f"{HUB}/Kijai/WanVideo_comfy/resolve/main/Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32.safetensors",
)
S2V = _wan22("wan2.2_s2v_14B_fp8_scaled.safetensors", "diffusion_models")  # video_wan2_2_14B_s2v
WAV2VEC2 = _wan22("wav2vec2_large_english_fp16.safetensors", "audio_encoders")  # video_wan2_2_14B_s2v
T2V_HIGH, T2V_LOW = (  # video_wan2_2_14B_t2v
    _wan22(f"wan2.2_t2v_{noise}_noise_14B_fp8_scaled.safetensors", "diffusion_models") for noise in ("high", "low")
)
T2V_HIGH_4_STEPS, T2V_LOW_4_STEPS = (  # video_wan2_2_14B_t2v
    _wan22(f"wan2.2_t2v_lightx2v_4steps_lora_v1.1_{noise}_noise.safetensors", "loras") for noise in ("high", "low")
)
I2V_HIGH, I2V_LOW = (  # video_wan2_2_14B_i2v
    _wan22(f"wan2.2_i2v_{noise}_noise_14B_fp8_scaled.safetensors", "diffusion_models") for noise in ("high", "low")
)
I2V_HIGH_4_STEPS, I2V_LOW_4_STEPS = (  # video_wan2_2_14B_i2v
    _wan22(f"wan2.2_i2v_lightx2v_4steps_lora_v1_{noise}_noise.safetensors", "loras") for noise in ("high", "low")
)
HUNYUAN_15 = _hunyuan15("hunyuanvideo1.5_720p_t2v_fp16.safetensors", "diffusion_models")  # ..._1.5_720p_t2v
HUNYUAN_15_VAE = _hunyuan15("hunyuanvideo15_vae_fp16.safetensors", "vae")  # video_hunyuan_video_1.5_720p_t2v
BYT5 = _hunyuan15("byt5_small_glyphxl_fp16.safetensors", "text_encoders")  # video_hunyuan_video_1.5_720p_t2v
QWEN = _hunyuan15("qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders")  # video_hunyuan_video_1.5_720p_t2v
T5 = ModelFile(  # ltxv_image_to_video
    "t5xxl_fp16.safetensors",
    "text_encoders",
    f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors",
)
LTXV = ModelFile(  # ltxv_image_to_video
    "ltx-video-2b-v0.9.5.safetensors",
    "checkpoints",
    f"{HUB}/Lightricks/LTX-Video/resolve/main/ltx-video-2b-v0.9.5.safetensors",
)
COGVIDEOX = ModelFile(
    "CogVideoX_1_5_5b_T2V_bf16.safetensors",
    "diffusion_models",
    f"{HUB}/Kijai/CogVideoX-comfy/resolve/main/CogVideoX_1_5_5b_T2V_bf16.safetensors",
)
COGVIDEOX_VAE = ModelFile(
    "cogvideox_vae_bf16.safetensors", "vae", f"{HUB}/Kijai/CogVideoX-comfy/resolve/main/cogvideox_vae_bf16.safetensors"
)
