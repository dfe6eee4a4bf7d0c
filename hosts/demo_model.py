"""The demo model as ComfyUI's own objects: MODEL and VAE through core's loaders, its text encoder as a normal CLIP.

Core's CLIP Text Encode accepts the CLIP: `(word:1.3)` weights work as in core's own encoders (the token's embedding is
pushed away from the empty prompt's), words outside the vocabulary are named in a warning. Textual inversions do not
exist here; `embedding:name` is reported like any unknown word.
"""

import json
import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

import comfy.latent_formats
import comfy.model_management
import comfy.sd
import comfy.utils
from comfy.sd1_clip import escape_important, token_weights, unescape_important

from ..demo import text_encoder
from .types import ModelOptions

WEIGHTS = Path(text_encoder.__file__).resolve().parent / "weights"
MODEL_FILE = "shapeworld_t2v.safetensors"
VAE_FILE = "shapeworld_vae.safetensors"
PREVIEW_FILE = "shapeworld_vae.preview.json"  # written by demo/fit_preview.py
TEXT_FILE = "shapeworld_text.safetensors"
ANCHOR_LORA_FILE = "shapeworld_anchor_lora.safetensors"  # beside them, loaded by hosts/anchor/lora.py
_KEY = "shapeworld"  # of this tokenizer in the tokens that core hands from tokenizer to encoder


def load_demo_model(folder: Path = WEIGHTS) -> tuple[object, comfy.sd.CLIP, comfy.sd.VAE]:
    """-> (MODEL, CLIP, VAE) from the three files in `folder`.

    Raises FileNotFoundError, naming file and folder, when one is missing, and ValueError when the text encoder's
    weights do not fit.
    """
    for name in (MODEL_FILE, VAE_FILE, TEXT_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"the demo model's {name} is not in {folder}; it comes with the pack: reinstall "
                f"Longreel, or train it with the scripts in {folder.parent}"
            )
    model = comfy.sd.load_diffusion_model(str(folder / MODEL_FILE))
    show_previews(model.model.latent_format, folder / PREVIEW_FILE)
    weights, metadata = comfy.utils.load_torch_file(str(folder / VAE_FILE), return_metadata=True)
    vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    vae.throw_exception_if_invalid()
    return model, load_demo_clip(folder / TEXT_FILE), vae


def show_previews(latent_format: comfy.latent_formats.LatentFormat, file: Path) -> None:
    """Give a loaded model the preview colours of its own VAE; Wan's, which it has from core, are of another latent.

    A folder of weights under way has none yet, and goes without: previews alone are wrong then.
    """
    if file.is_file():
        fitted = json.loads(file.read_text(encoding="utf-8"))
        latent_format.latent_rgb_factors = fitted["factors"]
        latent_format.latent_rgb_factors_bias = fitted["bias"]


def load_demo_clip(file: Path) -> comfy.sd.CLIP:
    """The text encoder in `file` as a CLIP."""
    weights = comfy.utils.load_torch_file(str(file), safe_load=True)
    embedding = weights.get("embedding.weight")
    rows, width = (text_encoder.ROWS, text_encoder.WIDTH) if embedding is None else embedding.shape
    target = SimpleNamespace(
        params={}, clip=partial(_Encoder, rows, width), tokenizer=partial(_Tokenizer, text_encoder.vocabulary_of(rows))
    )
    # Plain torch modules: they are moved as a whole, not streamed layer by layer.
    clip = comfy.sd.CLIP(target, parameters=sum(w.numel() for w in weights.values()), disable_dynamic=True)
    missing, unexpected = clip.load_sd(weights)
    faults = [
        f"{fault} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for fault, names in (("it lacks the weight", missing), ("it has the unknown weight", unexpected))
        if names
    ]
    if faults:
        raise ValueError(
            f"{file} is not the demo model's text encoder: {' and '.join(faults)}; use the file of this version"
        )
    return clip


class _Tokenizer:
    """Prompt text -> (row, weight) per word, padded to the encoder's length."""

    whole_words = True  # hosts/prompts/words.py: untokenize gives one word per token

    def __init__(
        self,
        vocabulary: text_encoder.Vocabulary,
        embedding_directory: str | None = None,
        tokenizer_data: dict | None = None,
    ):
        self.vocabulary = vocabulary  # core passes the others; there are no textual inversions

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs) -> dict[str, list[list[tuple]]]:
        pairs, unknown = [], []
        for part, weight in token_weights(escape_important(text), 1.0):
            rows, strangers = self._rows(unescape_important(part))
            pairs += [(row, weight) for row in rows]
            unknown += strangers
        if unknown:
            logging.warning(
                "Longreel demo model: %s", "; ".join(self._explain(word) for word in dict.fromkeys(unknown))
            )
        late = [self.vocabulary.words[row] for row, _ in pairs[text_encoder.TOKENS :]]
        if late:
            logging.warning(
                "Longreel demo model: %d known words, it reads %d; left out: %s",
                len(pairs),
                text_encoder.TOKENS,
                " ".join(late),
            )
        pairs = (pairs + [(0, 1.0)] * text_encoder.TOKENS)[: text_encoder.TOKENS]
        return {_KEY: [[(*pair, i) if return_word_ids else pair for i, pair in enumerate(pairs)]]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple[tuple, str]]:
        return [(pair, self.vocabulary.words[pair[0]]) for pair in pairs]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(self.vocabulary.words[i] for i in token_ids if i or not skip_special_tokens)

    def state_dict(self) -> dict:
        return {}

    def _rows(self, text: str) -> tuple[list[int], tuple[str, ...]]:
        """Rows of all known words, however many, and the unknown words."""
        rows, unknown = [], ()
        for word in text.split():  # word by word, so that the encoder's limit does not apply yet
            tokens = self.vocabulary.tokenize(word)
            rows += tokens.ids
            unknown += tokens.unknown
        return rows, unknown

    def _explain(self, word: str) -> str:
        near = self.vocabulary.nearest_known(word)
        return f'it does not know "{word}" and leaves it out' + (f' (nearest known word: "{near}")' if near else "")


class _Encoder(torch.nn.Module):
    """The text encoder behind the interface that comfy.sd.CLIP expects."""

    def __init__(
        self,
        rows: int,
        width: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        model_options: ModelOptions | None = None,
    ):
        super().__init__()
        self.dtypes = {torch.float32}  # 0.1 M weights: float32 whatever core would choose
        self.net = text_encoder.TextEncoder(rows, width).to(device).requires_grad_(False).eval()

    def reset_clip_options(self) -> None:
        pass  # there is one output layer and one projection, so there is nothing to choose

    def set_clip_options(self, options: dict) -> None:
        pass

    def load_sd(self, weights: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
        own = self.net.state_dict()
        misfits = [k for k, w in weights.items() if k in own and own[k].shape != w.shape]
        fitting = {k: w.float() for k, w in weights.items() if k not in misfits}
        missing, unexpected = self.net.load_state_dict(fitting, strict=False)
        return list(missing), list(unexpected) + misfits

    def encode_token_weights(self, tokens: dict[str, list[list[tuple]]]) -> tuple[torch.Tensor, torch.Tensor]:
        """-> context [1, sections * L, width] and pooled [1, width]."""
        sections = tokens[_KEY]
        device = next(self.net.parameters()).device
        rows = torch.tensor([[pair[0] for pair in section] for section in sections], device=device)  # [B, L]
        weights = torch.tensor([[pair[1] for pair in section] for section in sections], device=device)
        context = self.net(rows)  # [B, L, width]
        if (weights != 1.0).any():
            empty, weights = self.net(torch.zeros_like(rows)), weights.unsqueeze(-1)
            context = torch.where(weights == 1.0, context, empty + (context - empty) * weights)
        context = context.to(comfy.model_management.intermediate_device())
        return context.flatten(0, 1).unsqueeze(0), context.mean(1)[:1]
