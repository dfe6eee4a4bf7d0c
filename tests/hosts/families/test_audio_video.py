"""hosts/families/ltxav.py: what serves an audio-video model, and that everything else refuses it by name."""

import pytest
import torch

from longreel.engine.plan.anchor import CLEAN, Anchor
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.anchor.frame import Anchored
from longreel.hosts.attention import patching
from longreel.hosts.families import block_count, core_shape, family_of, ltxav, plain_family_of
from longreel.hosts.memory import short_memory
from longreel.hosts.sampling import planning, refine, rollout
from longreel.hosts.ttt import apply as ttt
from tests import tiny_audio_video
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import encode
from tests.hosts.windows.test_sound import story


@pytest.mark.parametrize("name", list(tiny_audio_video.NETWORKS))
def test_its_sites_are_the_videos_own_attentions(name):
    model = tiny_audio_video.load(name).model
    network = model.model.diffusion_model
    assert family_of(model) is ltxav is plain_family_of(network) and block_count(model) == 2
    modules = {id(site.module) for site in ltxav.sites(network)}
    assert modules == {id(m) for block in network.transformer_blocks for m in (block.attn1, block.attn2)}
    assert ltxav.width(network) == 64 and ltxav.heads(network) == 2


def test_memory_is_reckoned_by_all_numbers_of_both_streams():
    """Core's factor of LTX-2 is one of packed numbers: by the video's cells it would ask for a hundredth."""
    model = tiny_audio_video.load().model.model
    assert core_shape(model, (2, 128, 4, 3, 5)) == [2, 1, 128 * 60 + 128 * 25]


def test_what_does_not_serve_it_refuses_it_by_name():
    loaded = tiny_audio_video.load()
    timeline = story(loaded)
    latent, settings = planning.empty_latent(timeline), sampling_of(encode(loaded, timeline), sigmas_of(loaded.model))
    anchor = Anchored(Anchor(0.0, 0, 0, CLEAN, 1.0), torch.zeros(1, 128, 1, 2, 2))
    refused = {
        "Longreel Cluster": lambda: rollout.sample_rollout(
            loaded.model, timeline, latent, settings, elsewhere=lambda task, run: {}
        ),
        "low_noise_model, the second of two experts,": lambda: rollout.sample_rollout(
            loaded.model, timeline, latent, settings, low_noise_model=loaded.model
        ),
        "Longreel Refine": lambda: refine.refine(loaded.model, latent, settings, strength=0.5, timeline=timeline),
        "Longreel Anchor Frame": lambda: anchor_frame.attach(loaded.model, [anchor]),
        PLAIN.name: lambda: patching.attach(loaded.model, PLAIN),
        "Longreel Short Memory .known frames.": lambda: short_memory.attach(
            loaded.model, short_memory.KnownFrames(short_memory.CLEAN, 2, 1.0, 0.0)
        ),
    }
    for name, ask in refused.items():
        with pytest.raises(ValueError, match=f"^{name} works on video alone, and LTX-2 makes video and sound together"):
            ask()
    with pytest.raises(ValueError, match="TTT layers have no place in LTX-2 yet"):
        ttt.apply(loaded.model, None)
