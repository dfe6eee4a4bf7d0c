"""A stand-in for core's audio encoders, whose smallest that a video model hears weighs more than half a gigabyte."""

from types import SimpleNamespace

import torch

RATE, PER_FEATURE = 16_000, 320  # samples a second, and to a feature
S2V, HUMO = (25, 1024), (33, 1280)  # layers and width of wav2vec2 large and whisper large v3


class Encoder:
    """Its layers [1, T, width] are the sound itself, other in every layer and at every time."""

    def __init__(self, layers: int, width: int, most: int | None = None):
        self.layers, self.width, self.heard = layers, width, []
        extractor = SimpleNamespace() if most is None else SimpleNamespace(n_samples=most)
        self.model = SimpleNamespace(feature_extractor=extractor)

    def encode_audio(self, waveform: torch.Tensor, rate: int) -> dict:
        self.heard.append(waveform.shape[2])
        assert rate == RATE
        mono = waveform.mean(1)[:, : waveform.shape[2] // PER_FEATURE * PER_FEATURE]
        level = mono.view(1, -1, PER_FEATURE).mean(2)[..., None]  # [1, T, 1]
        wave_of_width = torch.linspace(0.5, 1.5, self.width)
        layers = [level * wave_of_width * (layer + 1) for layer in range(self.layers)]
        return {"encoded_audio_all_layers": layers, "audio_samples": waveform.shape[2]}
