"""engine/ttt/lact.py: large chunks of frames, divided evenly, in the place of a TTT layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from longreel.engine.ttt.layer import AS_TRAINED, LACT, OWN, TTTConfig
from longreel.engine.ttt.order import Layout, even_layout, frame_slabs, scan_runs
from longreel.kernels.lact import COEFFICIENTS, FastWeights, evaluated, lengths_of, read_chunk
from tests.engine.finite_differences import along_gradients
from tests.engine.ttt_cases import HEADS, THREE_SEGMENTS, WIDTH, layouts, tokens, tokens_like
from tests.live_bytes import LiveBytes

SIX_SEGMENTS = even_layout(text_tokens=3, segments=6, frames=13, height=2, width=2)


def lact(dtype: torch.dtype = torch.float32, **changed) -> TTTBlock:
    """Every parameter random, gates open."""
    torch.manual_seed(0)
    config = {"kind": LACT, "width": WIDTH, "heads": HEADS, "chunk": 2, "base_rate": 0.01, "rates": OWN} | changed
    block = TTTBlock(TTTConfig(**config), dtype=dtype)
    for name, value in block.named_parameters():
        if not name.startswith(("ttt.w1", "ttt.w2", "ttt.w3")):
            torch.nn.init.normal_(value, mean=1.0 if name.endswith("norm_weight") else 0.0, std=0.2)
        if "_" in name and not name.startswith("ttt."):
            torch.nn.init.constant_(value, 0.7)
    return block


def reading(block: TTTBlock, x: torch.Tensor, layout: Layout, backwards: bool) -> torch.Tensor:
    out = torch.empty_like(x)
    for slab, y in block.ttt.read(x, layout, backwards):
        for (start, stop), part in zip(slab.ranges, y.split([b - a for a, b in slab.ranges], 1), strict=True):
            out[:, start:stop] = part
    return out


def slowly(block: TTTBlock, x: torch.Tensor, chunks: list[list[int]], angles: torch.Tensor) -> torch.Tensor:
    """A reading by the paper's equations, token by token: x [L, C], chunks of its tokens as they are read, angles [L,
    D / 2]."""
    layer, D = block.ttt, WIDTH // HEADS
    place = {name: value.detach() for name, value in layer.named_parameters()}

    def project(name: str, token: torch.Tensor) -> torch.Tensor:
        return place[f"{name}.weight"] @ token + place[f"{name}.bias"]

    def unit(token: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """Of length one, each pair of channels a complex number that is turned."""
        turned = torch.view_as_complex((token / token.norm()).view(-1, 2).contiguous()) * torch.exp(1j * angle)
        return torch.view_as_real(turned).flatten()

    out = torch.empty_like(x)
    for head in range(HEADS):
        part = slice(head * D, head * D + D)
        W = [place[name][head].T.clone() for name in ("w1", "w2", "w3")]
        lengths = [w.norm(dim=1, keepdim=True) for w in W]

        def f(column: torch.Tensor, W1: torch.Tensor, W2: torch.Tensor, W3: torch.Tensor) -> torch.Tensor:
            opened = W1 @ column
            return W2 @ (opened * opened.sigmoid() * (W3 @ column))

        for chunk in chunks:
            leaves = [w.clone().requires_grad_(True) for w in W]
            losses = [0.0, 0.0, 0.0]
            for t in chunk:
                told = torch.dot(f(unit(project("wk", x[t])[part], angles[t]), *leaves), project("wv", x[t])[part])
                shift = torch.log(torch.expm1(torch.tensor(layer.config.base_rate, dtype=x.dtype)))
                rates = torch.log1p(torch.exp(project("rates", x[t])[3 * head : 3 * head + 3] + shift))
                losses = [loss - rate * told for loss, rate in zip(losses, rates, strict=True)]
            for number, loss in enumerate(losses):
                U, s, Vh = torch.linalg.svd(torch.autograd.grad(loss, leaves[number], retain_graph=True)[0], False)
                s = s / s.norm()
                for a, b, c in COEFFICIENTS:
                    s = a * s + b * s**3 + c * s**5
                W[number] = W[number] - U * s @ Vh
                W[number] = W[number] / W[number].norm(dim=1, keepdim=True) * lengths[number]
            for t in chunk:
                answer = f(unit(project("wq", x[t])[part], angles[t]), *W)
                size = (answer.square().mean() + layer.config.norm_eps).sqrt()
                out[t, part] = answer / size * place["head_norm_weight"]
    return torch.stack([project("wo", token) for token in out])


@pytest.mark.parametrize("backwards", [False, True])
def test_a_reading_is_the_papers_equations(backwards):
    """Two segments with texts of 2 tokens and frames of 2, which share one; chunks of at most 2 frames."""
    layout = Layout((2, 2), ((0, 3), (2, 4)), 1, 2)
    block, x = lact(torch.float64), tokens_like(layout).double()
    frames = [[4, 5], [6, 7], [8, 9], [10, 11]]
    if backwards:  # the shared frame counts with the later segment, which is read first
        chunks = [[2, 3, *frames[3][::-1], *frames[2][::-1]], [0, 1, *frames[1][::-1], *frames[0][::-1]]]
    else:
        chunks = [[0, 1, *frames[0]], [*frames[1], *frames[2]], [2, 3, *frames[3]]]
    D = WIDTH // HEADS
    angles = torch.zeros(layout.tokens, D // 2, dtype=torch.float64)
    for place, token in enumerate(range(11, 3, -1) if backwards else range(4, 12)):
        axes = ((place // 2, D // 4), (0, D * 3 // 8), (place % 2, D * 3 // 8))  # frame, row, column
        angles[token] = torch.cat(
            [at * 10000.0 ** (-2 * torch.arange(share // 2, dtype=torch.float64) / share) for at, share in axes]
        )
    with torch.no_grad():
        found = reading(block, x, layout, backwards)[0]
    torch.testing.assert_close(found, slowly(block, x[0], chunks, angles), rtol=1e-3, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(layouts(), st.booleans(), st.integers(1, 5))
def test_slabs_of_frames_are_the_scan_in_parts_of_one_segment(layout, backwards, frames):
    found = list(frame_slabs(layout, backwards, frames))
    assert [token for slab in found for token in tokens(slab.runs)] == tokens(scan_runs(layout, backwards))
    assert [slab.first for slab in found] == [sum(map(len, found[:number])) for number in range(len(found))]
    sizes = [sum(len(run) for run in slab.runs if run.start >= layout.text_tokens) for slab in found]
    assert max(sizes) <= frames * layout.frame_tokens and not any(size % layout.frame_tokens for size in sizes)


def test_segments_are_divided_evenly_and_begin_with_their_text():
    layout = even_layout(text_tokens=2, segments=2, frames=13, height=1, width=1)  # 7 frames and 6
    assert [len(slab) for slab in frame_slabs(layout, False, 3)] == [2 + 2, 2, 3, 2 + 3, 3]
    assert [len(slab) for slab in frame_slabs(layout, True, 3)] == [2 + 2, 2, 3, 2 + 3, 3]
    assert [len(slab) for slab in frame_slabs(layout, False, 100)] == [9, 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_new_block_gives_its_input_back_to_the_bit(dtype):
    config = TTTConfig(LACT, WIDTH, HEADS, 2, 0.001, rates=OWN)
    block, x = TTTBlock(config, dtype=dtype), 50 * tokens_like(THREE_SEGMENTS).to(dtype)
    assert torch.equal(block(x, THREE_SEGMENTS), x)


@torch.no_grad()
@pytest.mark.parametrize("slab_tokens", [None, 4, 20, 1000])
def test_in_place_and_with_any_slab_it_is_the_same(slab_tokens):
    block, given = lact(torch.float64), tokens_like(THREE_SEGMENTS, batch=2).double()
    x = given.clone()
    expected = block(x, THREE_SEGMENTS)
    out = block(x, THREE_SEGMENTS, slab_tokens, in_place=True)
    assert out.data_ptr() == x.data_ptr() and not torch.equal(x, given)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(block(given[1:], THREE_SEGMENTS), expected[1:])


@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_gradients_are_those_of_finite_differences(checkpoint_every):
    """Along one random direction of all parameters at once."""
    block, x = lact(torch.float64), tokens_like(THREE_SEGMENTS).double()
    block.ttt.checkpoint_every = checkpoint_every
    weight, parameters = torch.randn_like(x) / x.numel() ** 0.5, list(block.parameters())
    gradients = torch.autograd.grad((block(x, THREE_SEGMENTS) * weight).sum(), parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    measured, along = along_gradients(lambda: (block(x, THREE_SEGMENTS) * weight).sum(), parameters, gradients, 1e-4)  # noqa: PLW0108
    # Queries and keys are brought to length one and turned in float32, whatever the layer's own dtype.
    torch.testing.assert_close(measured, along, rtol=2e-3, atol=0)


def test_recomputing_a_chunk_holds_less_and_is_the_same():
    layout, found = even_layout(2, 3, 7, 2, 2), []
    for checkpoint_every in (0, 16):
        block, x = lact(chunk=1), tokens_like(layout)
        block.ttt.checkpoint_every = checkpoint_every
        with LiveBytes(x, *block.parameters()) as memory:
            block(x, layout).square().sum().backward()
        found.append((memory.peak, torch.cat([value.grad.flatten() for value in block.parameters()])))
    assert found[1][0] < 0.6 * found[0][0]
    torch.testing.assert_close(found[0][1], found[1][1])


@torch.no_grad()
def test_bfloat16_is_near_float32():
    """In chunks of more tokens than a head is wide. In fewer, the public code too orthogonalises what rounding left."""
    layout = even_layout(3, 3, 7, 5, 6)
    block, x = lact(), tokens_like(layout)
    expected = block(x, layout)
    out = block.bfloat16()(x.bfloat16(), layout)
    assert out.dtype == torch.bfloat16 and (out - expected).norm() < 0.06 * expected.norm()


@torch.no_grad()
@pytest.mark.parametrize("changed", [{"chunk": 1}, {"base_rate": 1.0}, {"norm_eps": 1e-3}, {"heads": 1}], ids=str)
def test_every_setting_changes_what_is_computed(changed):
    x, plain = tokens_like(SIX_SEGMENTS), lact()
    other = lact(**changed)
    if "heads" not in changed:
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))
    assert (plain(x, SIX_SEGMENTS) - other(x, SIX_SEGMENTS)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(
    ("backwards", "frame", "seen_by"), [(False, 5, range(5, 13)), (False, 6, range(5, 13)), (True, 5, range(6))]
)
def test_a_token_knows_its_whole_chunk_and_all_before_it(backwards, frame, seen_by):
    """Segments of two frames, the first of three, each one chunk; backwards the last has three: 10 to 12, then 8, 9."""
    block, x = lact(chunk=3), tokens_like(SIX_SEGMENTS)
    other = x.clone()
    other[:, slice(*SIX_SEGMENTS.tokens_of((frame, frame + 1)))] += 1
    changed = reading(block, x, SIX_SEGMENTS, backwards) != reading(block, other, SIX_SEGMENTS, backwards)
    frames = changed.any(-1)[0, SIX_SEGMENTS.text_tokens :].unflatten(0, (13, -1)).any(-1)
    assert frames.nonzero().flatten().tolist() == list(seen_by)


@torch.no_grad()
def test_a_new_layer_still_knows_a_chunk_after_seven_more():
    """Cosine of what it answers to the keys of the first chunk with their values."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layer = TTTBlock(TTTConfig(LACT, 48, 1, 1, 0.001, rates=OWN)).ttt
    fast = FastWeights(layer.w1[None], layer.w2[None], layer.w3[None])
    lengths, rates, likeness = lengths_of(fast), torch.ones(1, 80, 1, 3), []
    first = [torch.randn(1, 80, 1, 48, generator=generator) for _ in range(2)]
    for number in range(8):
        k, v = first if not number else (torch.randn(1, 80, 1, 48, generator=generator) for _ in range(2))
        _, fast = read_chunk(k, F.normalize(k, dim=-1), v, rates, fast, lengths)
        answer = evaluated(F.normalize(first[0], dim=-1).transpose(1, 2), fast).transpose(1, 2)
        likeness.append(float(F.cosine_similarity(answer, first[1], dim=-1).mean()))
    assert likeness[0] > 0.4 and likeness[7] > 0.5 * likeness[0]


@torch.no_grad()
def test_beside_the_video_it_holds_one_chunk():
    peaks = []
    for segments in (2, 8):
        layout = even_layout(8, segments, 6 * segments + 1, 4, 4)
        block, x = lact(chunk=3), tokens_like(layout)
        with LiveBytes(x, *block.parameters()) as memory:
            block(x, layout, 112, in_place=True)
        peaks.append(memory.peak)
    assert peaks[1] <= 1.02 * peaks[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rates": AS_TRAINED}, "lact reads its own learning rates"),
        ({"base_rate": 0.0}, "lact has base_rate 0 and learns nothing; use 0.001 as published"),
        ({"chunk": 0}, "a TTT layer with chunk 0 reads nothing"),
        ({"heads": 4}, "32 channels in 4 heads are 8 each; a head's width must be a multiple of 16"),
    ],
)
def test_configs_that_would_say_nothing_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        lact(**changed)


def test_a_file_carries_the_kind_and_the_chunk(tmp_path):
    block, path = lact(), tmp_path / "x.safetensors"
    save_ttt(path, LoadedTTT({1: block.state_dict()}, block.ttt.config, "Wan", 5, 3))
    loaded = load_ttt(path)
    assert loaded.config == block.ttt.config
    assert loaded.summary().startswith(
        "LaCT for Wan: 1 of 3 blocks, 2 heads of 16 channels\nlearns from up to 2 latent frames at once; trained on"
    )
    again = TTTBlock(loaded.config)
    again.load_state_dict(loaded.layers[1])
    x = tokens_like(THREE_SEGMENTS)
    assert torch.equal(again(x, THREE_SEGMENTS), block(x, THREE_SEGMENTS))
    with pytest.raises(ValueError, match="trained with 2 latent frames at once, and chunk is 3"):
        load_ttt(path, chunk=3)


def test_bad_readings_are_refused():
    block, x = lact(), tokens_like(THREE_SEGMENTS)
    with pytest.raises(ValueError, match="x has 36 tokens of 32 channels, but the layout 37"):
        block(x[:, 1:], THREE_SEGMENTS)
    with pytest.raises(ValueError, match="the TTT backend triton was asked for, and lact runs on the reference alone"):
        block(x, THREE_SEGMENTS, backend="triton")
