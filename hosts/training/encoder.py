"""Clips and prompts as the network is trained on them, by the VAE and CLIP of the graph.

A prompt of a story is cut to its own length where it is used, for text encoders differ in whether they fill texts up;
on the way, in files and batches, all are filled up to one length. Stories, files and batches are the trainer's
(training/).
"""

from collections.abc import Mapping

import torch

from ..types import CLIP, VAE, ModelPatcher
from .weights_digest import digest

TEXT, TOKENS, MASK, POOLED = "text", "text_tokens", "attention_mask", "pooled_output"


class TTTEncoder:
    """training/student.Encoder. text_tokens: length that prompts are filled up to; None: that of the empty prompt, as
    most encoders fill up themselves. Raises ValueError where a text encoder or VAE is missing."""

    def __init__(self, model: ModelPatcher, clip: CLIP, vae: VAE, text_tokens: int | None = None):
        for name, given in (("text encoder", clip), ("VAE", vae)):
            if given is None:
                raise ValueError(f"this checkpoint has no {name}; load one with its own node")
        self.clip, self.vae, self.latent_format = clip, vae, model.model.latent_format
        self.text_tokens = text_tokens or self._encode("")[TEXT].shape[0]
        self.video_identity = f"{type(self.latent_format).__name__} {_of(vae.first_stage_model, vae.patcher)}"
        self.text_identity = f"{self.text_tokens} {_of(clip.cond_stage_model, clip.patcher)}"

    def encode_video(self, pixels: torch.Tensor) -> torch.Tensor:
        """[pixel frames, H, W, 3] in 0..1 -> [C, F, h, w] float32."""
        with torch.inference_mode():
            latent = self.latent_format.process_in(self.vae.encode(pixels[..., :3]))
        return latent[0].float().cpu().clone()

    def encode_text(self, prompt: str) -> Mapping[str, torch.Tensor]:
        """ "text" [T, D], "text_tokens" [] int64, how many of them the prompt has, and where the encoder gives them
        "attention_mask" [T] and "pooled_output" [P].

        Raises ValueError for a prompt that is longer than all are filled up to.
        """
        encoded = self._encode(prompt)
        tokens = encoded[TEXT].shape[0]
        if tokens > self.text_tokens:
            raise ValueError(
                f"the prompt {prompt!r} has {tokens} tokens and prompts are filled up to "
                f"{self.text_tokens}; shorten it, or set text_tokens to {tokens}"
            )
        for name in (TEXT, MASK):
            if name in encoded:
                part = encoded[name]
                encoded[name] = torch.cat([part, part.new_zeros(self.text_tokens - tokens, *part.shape[1:])])
        return {**encoded, TOKENS: torch.tensor(tokens)}

    def _encode(self, prompt: str) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            text, more = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))[0]
        found = {TEXT: text, **{name: more.get(name) for name in (MASK, POOLED)}}
        # Masks stay whole numbers: networks read floating point ones as something to add to attention's logits.
        return {
            name: (part[0] if name == MASK else part[0].float()).cpu().clone()
            for name, part in found.items()
            if part is not None
        }


def _of(module: torch.nn.Module, patcher: ModelPatcher) -> str:
    """What tells encoders apart: their class and weights, and what LoRAs are patched into them."""
    patches = sorted(f"{name} {[patch[0] for patch in added]}" for name, added in patcher.patches.items())
    return f"{type(module).__name__} {digest(module.state_dict())} {patches or ''}"
