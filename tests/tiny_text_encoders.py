"""Core's own text encoders of the video models, and CLIP-L for its sections of 77 tokens, with the tokenizers that ship
with core and random weights a few numbers wide: everything between a prompt and its conditioning is real, but the size.

UMT5's vocabulary comes with its weights; here a SentencePiece model is trained on a page of text instead.
"""

import io
from functools import cache
from types import SimpleNamespace

import sentencepiece
import torch

import comfy.sd
from comfy import sd1_clip
from comfy.text_encoders import cogvideo, hunyuan_image, hunyuan_video, kandinsky5, llama, lt, wan

_T5 = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1}
_LLAMA = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
_CLIP = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
SIZES = {
    "t5xxl_model_config": _T5,
    "umt5xxl_model_config": {**_T5, "vocab_size": 512},
    "llama_model_config": _LLAMA,
    "qwen25_7b_model_config": _LLAMA,
    "clip_l_model_config": _CLIP,
}
ENCODERS = {
    "cogvideox": (cogvideo.cogvideo_te, cogvideo.CogVideoXTokenizer),
    "ltxv": (lt.ltxv_te, lt.LTXVT5Tokenizer),
    "wan": (wan.te, wan.WanT5Tokenizer),
    "hunyuan_video": (hunyuan_video.hunyuan_video_clip, hunyuan_video.HunyuanVideoTokenizer),
    "clip_l": (lambda: sd1_clip.SD1ClipModel, sd1_clip.SD1Tokenizer),
    "kandinsky5": (kandinsky5.te, kandinsky5.Kandinsky5Tokenizer),
    "hunyuan_video_15": (hunyuan_image.te, hunyuan_video.HunyuanVideo15Tokenizer),
}


@cache
def spiece_model() -> torch.Tensor:
    """[bytes] of a SentencePiece model with UMT5's special tokens and byte pieces, as a checkpoint carries it."""
    page = [
        "A red fox runs past the old ship",
        "The fox's tail is red",
        "A naïve painter drinks coffee in a café",
        "Two ships sail by, well-known, on 3.5 waves",
        "It jumps, it walks, it sleeps in the snow",
    ] * 8
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(page),
        model_writer=model,
        vocab_size=300,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)


@cache
def tiny_text_encoder(family: str) -> comfy.sd.CLIP:
    """A CLIP for core's CLIP Text Encode. `family` is a key of ENCODERS."""
    encoder, tokenizer = ENCODERS[family]
    eyes = llama.qwen_vl.Qwen2VLVisionTransformer
    llama.qwen_vl.Qwen2VLVisionTransformer = lambda **sizes: torch.nn.Identity()  # 2 GB that see no picture here
    try:
        clip = comfy.sd.CLIP(
            SimpleNamespace(params={}, clip=encoder(), tokenizer=tokenizer),
            parameters=1,
            tokenizer_data={"spiece_model": spiece_model()},
            model_options=dict(SIZES),
        )
    finally:
        llama.qwen_vl.Qwen2VLVisionTransformer = eyes
    draw(clip.cond_stage_model, seed=0)
    return clip


def draw(encoder: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give an encoder random weights, and return it."""
    generator = torch.Generator().manual_seed(seed)
    for weight in encoder.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return encoder
