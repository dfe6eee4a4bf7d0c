"""Training in pairs of shots: what the second shot sees, which clips may follow each other, and that this is what
Longreel KV Share does in sampling."""

import random

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.samplers

from longreel.demo import dit_net, train_dit, twin, world
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import demo_model, facts_of
from longreel.hosts.attention import patching
from longreel.hosts.features import kv_share
from longreel.hosts.prompts import conditioning
from longreel.hosts.windows import latent_blend


@pytest.fixture
def full_precision(monkeypatch):
    monkeypatch.setattr(dit_net, "HALF_PRECISION", False)


def toy_dit() -> dit_net.DiT:
    torch.manual_seed(0)
    dit = dit_net.DiT(width=64, ffn_width=128, heads=2, layers=2, text_width=32).eval()
    with torch.no_grad():
        for p in dit.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return dit


@torch.no_grad()
def test_the_second_shot_sees_the_first_and_never_the_other_way(full_precision):
    dit = toy_dit()
    x, context, time = torch.randn(4, 16, 5, 8, 8), torch.randn(4, 20, 32), torch.full([4], 700.0)
    alone = dit(x[:2], time[:2], context[:2])
    paired = dit(x, time, context, second_shots=True)
    assert torch.allclose(paired[:2], alone, atol=1e-5)
    changed = x.clone()
    changed[0] += 1.0
    after = dit(changed, time, context, second_shots=True)
    assert not torch.allclose(after[2], paired[2], atol=1e-3)
    assert torch.equal(after[3], paired[3])  # the other pair


@torch.no_grad()
def test_attention_in_order_is_dense_attention_under_a_mask():
    q, k, v = torch.randn(3, 2, 4, 7, 8).unbind()  # one pair, [2, h, N, d]
    both = [torch.cat(t.split(1), dim=2) for t in (q, k, v)]
    mask = torch.ones(14, 14, dtype=torch.bool)
    mask[:7, 7:] = False
    dense = torch.nn.functional.scaled_dot_product_attention(*both, attn_mask=mask)
    assert torch.allclose(torch.cat(dit_net.attend_in_order(q, k, v).split(1), dim=2), dense, atol=1e-5)


def test_a_shot_is_followed_by_the_same_object_or_by_one_that_is_named():
    rng = random.Random(0)
    scenes = [world.random_scene(rng, 17) for _ in range(4000)]
    numbers, prompts = train_dit.Pairs(scenes, list(range(len(scenes)))).draw(400, rng)
    first, second = [scenes[i] for i in numbers[:400]], [scenes[i] for i in numbers[400:]]
    same = [a.shape == b.shape and a.color == b.color for a, b in zip(first, second, strict=False)]
    assert 0.8 < sum(same) / 400 < 0.95
    for kept, scene, before, said in zip(same, second, prompts[:400], prompts[400:], strict=False):
        assert (before == "") == (said == "")
        if not kept and said:
            assert scene.color in said and scene.shape in said
    unsaid = [
        scene.color not in said for kept, scene, said in zip(same, second, prompts[400:], strict=False) if kept and said
    ]
    assert sum(unsaid) / len(unsaid) > 0.7


class OneLook(comfy.samplers.Sampler):
    """Asks the model once and keeps what it predicts."""

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self.x = noise * sigmas[0]
        self.video = model_wrap(self.x, sigmas[:1], **extra_args)
        return self.video


@torch.inference_mode()
def test_kv_share_shows_the_network_what_training_showed_it(full_precision):
    """`extend`, `before`, all layers, on two cut shots: the second half of a pair."""
    model, clip, _ = demo_model.load_demo_model()
    shots = (
        Shot("a big red circle moves right on a white background", 17 / 16),
        Shot("a big circle moves up on a white background", 17 / 16, transition="cut"),
    )
    board = Storyboard(shots=shots, width=64, height=64, fps=16.0)
    timeline = plan_timeline(board, facts_of(model), segment_frames=5)
    assert [(s.start_frame, s.latent_frames) for s in timeline.segments] == [(0, 5), (5, 4)]
    feature = kv_share.KVShare(
        mode="fast",
        source="first",
        source_shot=1,
        shots=(),
        across_cuts=True,
        join="extend",
        placement="before",
        strength=1.0,
        share_text=False,
        layers=frozenset(range(6)),
        start_percent=0.0,
        end_percent=1.0,
        mask=None,
    )
    patched = latent_blend.attach(patching.attach(model, feature), timeline, "cut")
    guider, look = comfy.samplers.CFGGuider(patched), OneLook()
    positive, negative = conditioning.encode_timeline(clip, timeline)
    guider.set_conds(positive, negative)
    guider.set_cfg(1.0)
    noise = torch.randn(1, 16, 9, 8, 8)
    sigma = 0.8
    guider.sample(noise, torch.zeros_like(noise), look, torch.tensor([sigma, 0.0]), seed=0)

    dit, encoder = twin.transformer().eval(), twin.text().eval()
    # The later window has its own first frame once more in front, which stands for a single picture.
    x = torch.cat([look.x[:, :, :5], look.x[:, :, [5, 5, 6, 7, 8]]])
    context = encoder(twin.token_ids(encoder, [shot.prompt for shot in shots]))
    velocity = dit(x, torch.full([2], sigma * 1000), context, second_shots=True)
    video = x - sigma * velocity
    assert torch.allclose(look.video[:, :, :5], video[:1], atol=2e-3)
    assert torch.allclose(look.video[:, :, 5:], video[1:, :, 1:], atol=2e-3)
