"""See the frames of a video through core's CLIP models: how alike neighbours are, and how well a frame fits its prompt.

CSCV (engine/measure/metrics.py) was published with CLIP ViT-B/32 and its pooled output before the projection, 768
numbers. Core's loader knows no B/32, so any model that it does load serves, with the same output where it has one; the
report names it, and figures compare within one model alone. Text alignment is the cosine of a frame's and its prompt's
embedding in the space that both sides of one CLIP were trained for: ViT-L with CLIP-L, ViT-H with OpenCLIP-H, ViT-bigG
with SDXL's. That the two are of one CLIP is known by their width alone.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from comfy import model_management

from ...engine.measure.by_frame import Columns
from ...engine.measure.figures import ShotSpan
from ..types import CLIP, ClipVision

BATCH = 8  # frames that the encoder sees at once


def clip_vision_name(vision: ClipVision) -> str:
    """Return what is known of the model: the file's name is not."""
    config = vision.config
    known = [
        f"{config[key]} {unit}" if unit else f"{config[key]}"
        for key, unit in (("model_type", ""), ("num_hidden_layers", "layers"), ("hidden_size", "wide"))
        if key in config
    ]
    return f"{', '.join(known)}, {vision.image_size} pixels; published with CLIP ViT-B/32, compare within one model"


class ClipMeter:
    """This meter's columns: likeness [F - 1], of each frame to the next one, -1..1; and, where `texts` are given, text
    [F], of each frame to its shot's prompt, NaN where there is none.
    """

    def __init__(
        self,
        vision: ClipVision,
        texts: Sequence[tuple[ShotSpan, Tensor]] = (),
        check_interrupt: Callable[[], object] = lambda: None,
    ):
        """Texts: of each shot, its prompt's embedding [width]."""
        self.vision, self.texts, self.check_interrupt = vision, texts, check_interrupt
        self._frames = 0
        self._last: Tensor | None = None
        self._likeness: list[Tensor] = []
        self._text: list[Tensor] = []

    def push(self, frames: Tensor) -> None:
        for part in frames.split(BATCH):
            self.check_interrupt()
            pooled, embeds = clip_features(self.vision, part.float() / 255)
            unit = F.normalize(pooled, dim=1)
            chain = unit if self._last is None else torch.cat([self._last, unit])
            self._likeness.append((chain[:-1] * chain[1:]).sum(1))
            self._last = unit[-1:]
            if self.texts:
                self._text.append(self._alignment(F.normalize(embeds, dim=1)))
            self._frames += len(part)

    def _alignment(self, embeds: Tensor) -> Tensor:
        """Return the cosine of each of the next frames [f, width] and its shot's text."""
        found = torch.full((len(embeds),), torch.nan)
        for shot, text in self.texts:
            a, b = (min(max(frame - self._frames, 0), len(embeds)) for frame in (shot.start, shot.stop))
            found[a:b] = embeds[a:b] @ F.normalize(text, dim=0)
        return found

    def finish(self) -> Columns:
        columns = {"likeness": torch.cat(self._likeness)}
        return columns | ({"text": torch.cat(self._text)} if self.texts else {})


def clip_features(vision: ClipVision, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for frames [F, H, W, 3] in 0..1, the pooled output before a projection, and the projected one, each
    [F, width] float32 on the CPU. Where a model answers for each patch (SigLIP), their mean is taken.
    """
    inside: list[Tensor] = []
    vision_model = getattr(vision.model, "vision_model", None)
    hook = None
    if vision_model is not None:
        hook = vision_model.register_forward_hook(lambda module, given, out: inside.append(out[2]))
    try:
        with torch.inference_mode():
            embeds = vision.encode_image(frames, crop=True)["image_embeds"]
    finally:
        if hook is not None:
            hook.remove()
    pooled = inside[-1] if inside else embeds
    return _one_each(pooled), _one_each(embeds)


def _one_each(features: Tensor) -> Tensor:
    features = features.float().cpu()
    return features.mean(1) if features.ndim == 3 else features


def texts_of(
    clip: CLIP, vision: ClipVision, shots: Sequence[ShotSpan]
) -> tuple[list[tuple[ShotSpan, Tensor]], str | None]:
    """Return each shot with its prompt's embedding, or none and why text alignment cannot be computed.

    A prompt of more than one section of 77 tokens is judged by its first one, as core pools it.
    """
    if vision.config.get("model_type", "clip_vision_model") != "clip_vision_model":
        return [], f"{vision.config['model_type']} shares no space with a text encoder here; wire a CLIP Vision"
    found: list[tuple[ShotSpan, Tensor]] = []
    seen = clip_features(vision, torch.zeros(1, vision.image_size, vision.image_size, 3))[1].shape[1]
    for shot in shots:
        model_management.throw_exception_if_processing_interrupted()
        _, pooled = clip.encode_from_tokens(clip.tokenize(shot.prompt), return_pooled=True)
        if pooled is None:
            return [], "clip gives no pooled text; wire the text encoder of the same CLIP as clip_vision, e.g. CLIP-L"
        text = pooled.float().cpu().reshape(-1)
        if len(text) != seen:
            return [], (
                f"clip gives {len(text)} numbers and clip_vision {seen}; wire the two sides of one CLIP: CLIP-L with "
                f"ViT-L, OpenCLIP-H with ViT-H"
            )
        if not bool(text.isfinite().all()) or not bool(text.any()):
            return [], "the text encoder's file has no text_projection; choose one that has"
        found.append((shot, text))
    return found, None
