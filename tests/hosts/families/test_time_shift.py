"""Keys moved in time: proof against every network's own rotary tables, and the places of prompts among text tokens.

Tables are shifted by a number of token frames and applied by the networks' own functions, never by ours.
"""

from types import SimpleNamespace

import pytest
import torch

import comfy.ldm.cogvideo.model
import comfy.ldm.flux.math
import comfy.ldm.hunyuan_video.model
import comfy.ldm.lightricks.model
import comfy.ops
from comfy.ldm.lightricks.symmetric_patchifier import latent_to_pixel_coords

from longreel.hosts.families import cogvideox, hunyuan_video, kandinsky, ltxv, wan

FRAMES, ROWS, COLUMNS = 4, 2, 3
TOKENS = FRAMES * ROWS * COLUMNS
OPTIONS = {"device": "cpu", "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}


def network_of(tiny, name: str):
    return tiny(name).model.model.diffusion_model


def keys(heads: int, channels: int, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randn(2, heads, tokens, channels, generator=torch.Generator().manual_seed(0))


def wan_keys(network, k: torch.Tensor, start: float, options: dict) -> torch.Tensor:
    """K [B, H, S, D] rotated by core's own table from token frame `start` on."""
    table = network.rope_encode(
        FRAMES, 2 * ROWS, 2 * COLUMNS, t_start=start, dtype=torch.float32, transformer_options=options
    )
    return comfy.ldm.flux.math.apply_rope1(k.transpose(1, 2), table).transpose(1, 2)


@pytest.mark.parametrize("options", [{}, {"rope_options": {"scale_t": 0.5, "shift_t": 3.0}}], ids=["plain", "scaled"])
@pytest.mark.parametrize("frames", [1, -7, 2.5])
@pytest.mark.parametrize("name", ["wan21", "wan22_5b"])
def test_shifted_keys_of_wan_are_keys_at_other_times(tiny, name, frames, options):
    network = network_of(tiny, name)
    k = keys(network.num_heads, network.dim // network.num_heads)
    shift = wan.time_shift(network, (None, None, None, None, None, options), {})
    positions = frames * options.get("rope_options", {}).get("scale_t", 1.0)
    expected = wan_keys(network, k, positions, options)
    assert torch.allclose(shift(wan_keys(network, k, 0, options), frames), expected, atol=1e-4)
    assert not torch.allclose(wan_keys(network, k, 0, options), expected, atol=1e-1)


@pytest.mark.parametrize("options", [{}, {"rope_options": {"scale_t": 0.5, "shift_t": 3.0}}], ids=["plain", "scaled"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("frames", [1, -7, 2.5])
def test_shifted_keys_of_kandinsky_are_keys_at_other_times(tiny, monkeypatch, frames, scale, options):
    network = network_of(tiny, "kandinsky5")
    monkeypatch.setattr(network, "rope_scale_factor", (scale, 2.0, 2.0))
    k = keys(2, 64)

    def at(frame: float) -> torch.Tensor:
        """Keys of a video that begins at this frame. The scale stretches the frames of a video, not their start."""
        start = frame * 0.5 if options else frame / scale
        table = network.rope_encode_3d(
            FRAMES, 2 * ROWS, 2 * COLUMNS, t_start=start, dtype=torch.float32, transformer_options=options
        )
        return comfy.ldm.flux.math.apply_rope1(k.transpose(1, 2), table).transpose(1, 2)

    shift = kandinsky.time_shift(network, (None, None, None, None), {"transformer_options": options})
    assert torch.allclose(shift(at(0), frames), at(frames), atol=1e-4)
    assert not torch.allclose(at(0), at(frames), atol=1e-1)


@pytest.mark.parametrize("frames", [1, -7, 2.5])
@pytest.mark.parametrize("name", ["cogvideox10", "cogvideox15"])
def test_shifted_keys_of_cogvideox_are_keys_at_other_times(tiny, name, frames, monkeypatch):
    network = network_of(tiny, name)
    k = keys(1, network.attention_head_dim)
    here = network._get_rotary_emb(ROWS, COLUMNS, FRAMES, "cpu")
    arange = torch.arange
    monkeypatch.setattr(
        comfy.ldm.cogvideo.model.torch,
        "arange",  # the table's times, and only they, have FRAMES steps
        lambda *args, **kwargs: arange(*args, **kwargs) + (frames if args == (FRAMES,) else 0),
    )
    there = network._get_rotary_emb(ROWS, COLUMNS, FRAMES, "cpu")
    monkeypatch.undo()
    rotate = comfy.ldm.cogvideo.model.apply_rotary_emb
    moved = cogvideox.time_shift(network, (), {})(rotate(k, here), frames)
    assert torch.allclose(moved, rotate(k, there), atol=1e-4)
    assert not torch.allclose(moved, rotate(k, here), atol=1e-1)


@pytest.mark.parametrize("learned", [False, True])
def test_keys_of_a_network_without_rotary_positions_cannot_be_shifted(learned):
    network = comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=64,
        num_layers=1,
        time_embed_dim=64,
        text_embed_dim=32,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        use_learned_positional_embeddings=learned,
        **OPTIONS,
    )
    assert cogvideox.time_shift(network, (), {}) is None


@pytest.mark.parametrize("frames", [1, -7, 2.5])
def test_shifted_keys_of_hunyuan_video_are_keys_at_other_times(tiny, frames):
    network = network_of(tiny, "hunyuan_video")
    k = keys(1, 128)
    ids = network.img_ids(torch.zeros(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS)).clone()
    here = network.pe_embedder(ids)
    ids[..., 0] += frames
    rotated = comfy.ldm.flux.math.apply_rope1(k, here)
    expected = comfy.ldm.flux.math.apply_rope1(k, network.pe_embedder(ids))
    assert torch.allclose(hunyuan_video.time_shift(network, (), {})(rotated, frames), expected, atol=1e-4)
    assert not torch.allclose(rotated, expected, atol=1e-1)


def ltxv_network(rope: str, causal: bool, middle: bool, precision: str, head: int):
    return comfy.ldm.lightricks.model.LTXVModel(
        in_channels=8,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=head,
        cross_attention_dim=2 * head,
        caption_channels=8,
        causal_temporal_positioning=causal,
        use_middle_indices_grid=middle,
        rope_type=rope,
        frequencies_precision=precision,
        **OPTIONS,
    )


def ltxv_keys(network, k: torch.Tensor, first_frame: int, frame_rate: float) -> torch.Tensor:
    """K [B, H, S, D] rotated by core's own table, as token frames `first_frame` and later of a longer video."""
    coords = network.patchifier.get_latent_coords(first_frame + FRAMES, ROWS, COLUMNS, 1, "cpu")
    pixels = latent_to_pixel_coords(coords, network.vae_scale_factors, network.causal_temporal_positioning)
    return rotated_at(network, k, pixels[:, :, first_frame * ROWS * COLUMNS :], frame_rate)


def rotated_at(network, k: torch.Tensor, pixels: torch.Tensor, frame_rate: float) -> torch.Tensor:
    """As the network's _prepare_positional_embeddings, in double precision: its fastest pairs turn by 15708 radians
    from the middle of the positions to an end, and float32 holds such an angle to a thousandth only."""
    coords = pixels.double()
    coords[:, 0] /= frame_rate
    table, split = network._precompute_freqs_cis(
        coords,
        network.inner_dim,
        torch.float64,
        max_pos=network.positional_embedding_max_pos,
        use_middle_indices_grid=network.use_middle_indices_grid,
        num_attention_heads=network.num_attention_heads,
    )
    rotated = comfy.ldm.lightricks.model.apply_rotary_emb(k.transpose(1, 2).flatten(2), (table.float(), split))
    return rotated.unflatten(-1, (k.shape[1], -1)).transpose(1, 2)


@pytest.mark.parametrize("rope", ["interleaved", "split"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("head, precision", [(32, "float32"), (32, "float64"), (48, "float32")])
def test_shifted_keys_of_ltxv_are_keys_at_other_times(rope, causal, middle, head, precision):
    network = ltxv_network(rope, causal, middle, precision, head)  # 2 x 32 channels need padding, 2 x 48 do not
    k, frame_rate, by = keys(2, head), 12.5, 3
    first = 1 if causal else 0  # see the next test for the first frame
    at = ltxv_keys(network, k, first, frame_rate)
    expected = ltxv_keys(network, k, first + by, frame_rate)
    shift = ltxv.time_shift(network, (None, None, None, None, frame_rate), {})
    assert torch.allclose(shift(at, by), expected, atol=1e-4)
    assert torch.allclose(shift(expected, -by), at, atol=1e-4)
    assert not torch.allclose(at, expected, atol=1e-1)


def test_the_first_frame_of_causal_ltxv_moves_to_the_last_pixel_frame_of_its_new_token_frame(tiny):
    network = network_of(tiny, "ltxv")
    assert network.causal_temporal_positioning
    k = keys(2, 32, tokens=1)

    def at_pixel_frame(frame: int) -> torch.Tensor:
        pixels = torch.tensor([frame, 0, 0]).reshape(1, 3, 1, 1).expand(1, 3, 1, 2)
        return rotated_at(network, k, pixels, 25)

    shift = ltxv.time_shift(network, (), {})  # 25 frames a second is core's default
    assert torch.allclose(
        shift(at_pixel_frame(0), 3), at_pixel_frame(24), atol=1e-4
    )  # token frame 3 is pixels 17 to 24


PICTURE, QUOTED, TEXT = 5, 3, 7  # tokens


@pytest.mark.parametrize(
    "newer, picture, quoted, place",
    [
        (False, False, False, 0),
        (False, True, False, PICTURE),
        (False, False, True, 0),
        (True, False, True, QUOTED),
        (True, True, True, PICTURE + QUOTED),
        (True, True, False, PICTURE),
    ],
)
def test_the_prompt_of_hunyuan_video_is_found_among_its_text_tokens(monkeypatch, newer, picture, quoted, place):
    """Against the order in which the network itself joins its text tokens."""
    network = comfy.ldm.hunyuan_video.model.HunyuanVideo(
        in_channels=16,
        out_channels=16,
        vec_in_dim=None,
        context_in_dim=32,
        hidden_size=128,
        mlp_ratio=1.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=0,
        axes_dim=[16, 56, 56],
        theta=256,
        patch_size=[1, 2, 2],
        qkv_bias=True,
        guidance_embed=False,
        byt5=True,
        meanflow=False,
        use_cond_type_embedding=newer,
        vision_in_dim=8,
        meanflow_sum=False,
        **OPTIONS,
    )
    prompt = torch.full((1, TEXT, 128), 4.0)
    made = {"txt_in": prompt, "byt5_in": torch.zeros(1, QUOTED, 128), "vision_in": torch.zeros(1, PICTURE, 128)}
    for part, tokens in made.items():
        monkeypatch.setattr(getattr(network, part), "forward", lambda *args, tokens=tokens, **kwargs: tokens)
    if newer:
        monkeypatch.setattr(network.cond_type_embedding, "forward", lambda ids: torch.zeros(*ids.shape, 128))
    seen = {}

    def stop_at_block(module, args, kwargs):
        seen["txt"] = kwargs["txt"]
        raise StopAtBlock

    network.double_blocks[0].register_forward_pre_hook(stop_at_block, with_kwargs=True)
    inputs = {
        "clip_fea": torch.zeros(1, PICTURE, 8) if picture else None,
        "txt_byt5": torch.zeros(1, QUOTED, 1472) if quoted else None,
    }
    args = (torch.zeros(1, 16, 1, 4, 4), torch.zeros(1), torch.zeros(1, TEXT, 32))
    with torch.inference_mode(), pytest.raises(StopAtBlock):
        network(*args, **inputs)
    found = hunyuan_video.prompt_start(network, args, inputs)
    assert found == place
    assert torch.equal(seen["txt"][:, found : found + TEXT], prompt)


class StopAtBlock(Exception):
    pass


@pytest.mark.parametrize("family", [wan, cogvideox, ltxv, kandinsky])
def test_the_prompt_comes_first_where_no_other_tokens_are_attended_with_it(family):
    assert family.prompt_start(SimpleNamespace(), (), {}) == 0
