"""KV sharing on every family: what a segment reads, when and where, what is kept for how long, and what is refused.

A watcher outside the sharing sees at every attention call what the block would attend to by itself, and what comes out.
"""

import dataclasses
import gc
import weakref
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

import comfy.model_management
import comfy.ops
import comfy.patcher_extension
import comfy.sd
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode

from longreel.engine.attention.kv_share import ALIGNED, BEFORE, CHOSEN, EXTEND, FIRST, PREVIOUS, REPLACE, TRUE
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import patching
from longreel.hosts.attention.ledger import LEDGER
from longreel.hosts.families.sites import CROSS, SELF
from longreel.hosts.features.kv_share import FAST, NAME, PAPER, READER, SOURCE, KVShare
from longreel.hosts.prompts import conditioning
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.tiny_models import Checkpoint, draw_weights

SECONDS = {4: 1.0, 8: 2.0}  # per temporal stride: four latent frames at 16 fps
SHORT = "a red cat runs"
LONG = "the quick brown fox jumps over the lazy dog and then runs home to sleep for a long time"
PLAIN = KVShare(
    mode=FAST,
    source=PREVIOUS,
    source_shot=1,
    shots=(),
    across_cuts=True,
    join=REPLACE,
    placement=ALIGNED,
    strength=1.0,
    share_text=True,
    layers=frozenset({1, 2}),
    start_percent=0.0,
    end_percent=1.0,
    mask=None,
)


# A story, sampled


def story(model, texts=(SHORT,) * 3, transitions=("continue", "blend", "cut")):
    """Three shots in four segments: blended from the first to the second, a cut before the third."""
    facts = facts_of(model)
    seconds = SECONDS[facts.temporal_stride]
    shots = tuple(
        Shot(f"{text} {number}", seconds, transition=transition)
        for number, (text, transition) in enumerate(zip(texts, transitions, strict=True))
    )
    board = Storyboard(shots=shots, width=64, height=64, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=5, overlap_frames=2, transition_prompts=1)


def sample(loaded, timeline, settings=None, model=None, lead_frame=True, videos=1, **options):
    model = loaded.model if model is None else model
    if settings is not None:
        model = patching.attach(model, settings)
    model = latent_blend.attach(model, timeline, "triangle", 0, lead_frame)
    with torch.inference_mode():
        positive, negative = conditioning.encode_timeline(loaded.clip, timeline)
    facts = timeline.facts
    latent = torch.zeros(
        videos,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )
    return tiny_sampling.sample(model, positive, negative, latent, **{"steps": 1, **options})


@dataclasses.dataclass
class Record:
    """One call as the watcher saw it, and what came out."""

    call: object
    out: torch.Tensor

    @property
    def where(self) -> tuple:
        return self.call.kind, self.call.block, self.call.evaluation.sigma

    def parts(self) -> dict:
        """(prompt, entry) -> (q, k, v, mask, out)."""
        names = list(zip(self.call.rows, self.call.entries, strict=True))
        tensors = (self.call.q, self.call.k, self.call.v, self.call.mask, self.out)
        cut = [
            [None] * len(names) if t is None else t.chunk(len(names)) if t.shape[0] > 1 else [t] * len(names)
            for t in tensors
        ]
        return dict(zip(names, zip(*cut, strict=True), strict=False))


def recorded(loaded, timeline, settings, **options) -> list[Record]:
    """Every attention call of a run in which `settings` share."""
    records = []

    def record(call, next_attention):
        out = next_attention(call.q, call.k, call.v, call.mask)
        records.append(Record(call, out))
        return out

    model = patching.attach(patching.attach(loaded.model, settings), Watcher(record))
    sample(loaded, timeline, model=model, **options)
    return records


def attention(q, k, v, mask=None) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)


def source_part(records: list[Record], reader: Record, sources: list, settings: KVShare, prompt: tuple) -> tuple:
    """What a reader's prompt is to read by `settings`: (k, v, mask, text tokens) of the source, before placement."""
    source = sources[reader.call.evaluation.segment]
    role = SOURCE if settings.mode == PAPER or sources[source] is None else READER
    record = next(
        record
        for record in records
        if record.where == reader.where
        and prompt in record.parts()
        and (record.call.evaluation.segment, record.call.evaluation.role) == (source, role)
    )
    _, k, v, mask, _ = record.parts()[prompt]
    return k, v, mask, record.call.text_tokens


def previous(timeline) -> list[int | None]:
    """For each segment the one before it."""
    return [None, *range(len(timeline.segments) - 1)]


def reads(call, settings: KVShare) -> bool:
    shares = call.block in settings.layers and (call.kind != CROSS or settings.share_text)
    return shares and call.evaluation.role == READER


def assert_readers_read_their_source(records, timeline, settings):
    sources, readers = previous(timeline), 0
    for record in records:
        for prompt, (q, k, v, mask, out) in record.parts().items():
            if reads(record.call, settings):
                k, v, mask, _ = source_part(records, record, sources, settings, prompt)
                readers += 1
            assert torch.allclose(out, attention(q, k, v, mask), atol=1e-5)
    assert readers


# Strength 0 and 1


@pytest.mark.parametrize("mode", [FAST, PAPER])
def test_strength_0_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny, mode):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    plain = sample(loaded, timeline, steps=2)
    none = dataclasses.replace(PLAIN, mode=mode, strength=0.0)
    assert torch.equal(sample(loaded, timeline, none, steps=2), plain)
    assert not torch.equal(sample(loaded, timeline, dataclasses.replace(PLAIN, mode=mode), steps=2), plain)


@pytest.mark.parametrize("mode", [FAST, PAPER])
@pytest.mark.parametrize(
    "texts, batches",
    [((SHORT,) * 3, {(1, 0)}), ((LONG,) * 3, {(0,), (1,)}), ((LONG, SHORT, LONG), {(1, 0), (0,), (1,)})],
    ids=["one batch", "two", "both"],
)
def test_a_readers_output_is_attention_on_its_sources_keys_and_values(tiny, every_tiny, mode, texts, batches):
    """Prompts in one batch; in forwards of their own, being of different length; and in either, from shot to shot."""
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, texts)
    settings = dataclasses.replace(PLAIN, mode=mode)
    records = recorded(loaded, timeline, settings)
    assert {record.call.rows for record in records} == batches
    assert_readers_read_their_source(records, timeline, settings)


@pytest.mark.parametrize("mode", [FAST, PAPER])
def test_several_videos_in_a_batch_each_read_their_own_source(tiny, every_tiny, mode):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    settings = dataclasses.replace(PLAIN, mode=mode)
    records = recorded(loaded, timeline, settings, videos=2)
    assert {record.call.q.shape[0] for record in records} == {4}
    assert_readers_read_their_source(records, timeline, settings)


def test_half_the_strength_is_half_of_each(tiny):
    loaded = tiny("hunyuan_video")
    timeline = story(loaded.model)
    settings = dataclasses.replace(PLAIN, strength=0.25)
    records = recorded(loaded, timeline, settings)
    sources = previous(timeline)
    for record in records:
        for prompt, (q, k, v, mask, out) in record.parts().items():
            expected = attention(q, k, v, mask)
            if reads(record.call, settings):
                theirs = attention(q, *source_part(records, record, sources, settings, prompt)[:3])
                expected = 0.75 * expected + 0.25 * theirs
            assert torch.allclose(out, expected, atol=1e-5)


# What is read: text, place in time


@pytest.mark.parametrize("name", ["cogvideox10", "hunyuan_video"])
def test_text_that_is_not_shared_stays_the_segments_own(tiny, name):
    loaded = tiny(name)
    timeline = story(loaded.model, (LONG, SHORT, SHORT))
    settings = dataclasses.replace(PLAIN, share_text=False)
    records = recorded(loaded, timeline, settings)
    sources = previous(timeline)
    for record in records:
        if not reads(record.call, settings):
            continue
        text = record.call.text_tokens
        for prompt, (q, k, v, _, out) in record.parts().items():
            their_k, their_v, _, their_text = source_part(records, record, sources, settings, prompt)
            k = torch.cat([k[:, :, :text], their_k[:, :, their_text:]], dim=2)
            v = torch.cat([v[:, :, :text], their_v[:, :, their_text:]], dim=2)
            assert torch.allclose(out, attention(q, k, v), atol=1e-5)


@pytest.mark.parametrize("name", ["wan21", "ltxv"])
def test_a_cross_attention_on_text_that_is_not_shared_is_left_alone(tiny, name):
    loaded = tiny(name)
    timeline = story(loaded.model)
    settings = dataclasses.replace(PLAIN, share_text=False)
    records = recorded(loaded, timeline, settings)
    assert_readers_read_their_source(records, timeline, settings)
    assert any(record.call.kind == CROSS for record in records)


@pytest.mark.parametrize("placement", [BEFORE, TRUE])
@pytest.mark.parametrize("lead_frame", [True, False])
def test_sources_stand_where_placement_says(tiny, every_tiny, placement, lead_frame):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    settings = dataclasses.replace(PLAIN, placement=placement)
    records = recorded(loaded, timeline, settings, lead_frame=lead_frame)
    sources = previous(timeline)

    def first_frame_seen(number: int) -> int:
        start = timeline.segments[number].start_frame
        return start - 1 if lead_frame and start > 0 else start

    moved = set()
    for record in records:
        call = record.call
        if not reads(call, settings) or call.kind == CROSS:
            continue
        here, source = call.evaluation.segment, sources[call.evaluation.segment]
        grid = next(r.call.forward.grid for r in records if r.call.evaluation.segment == source)
        apart = (first_frame_seen(source) - first_frame_seen(here)) / call.forward.patch_frames
        frames = {BEFORE: -grid[0], TRUE: apart}
        moved.add(frames[placement])
        for prompt, (q, _, _, mask, out) in record.parts().items():
            k, v, mask, text = source_part(records, record, sources, settings, prompt)
            k = torch.cat([k[:, :, :text], call.forward.time_shift(k[:, :, text:], frames[placement])], dim=2)
            assert torch.allclose(out, attention(q, k, v, mask), atol=1e-5)
    assert moved and max(moved) < 0  # sources come before


# When and where


def test_sharing_happens_in_the_chosen_layers_and_noise_levels_only(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    settings = dataclasses.replace(PLAIN, layers=frozenset({1}), start_percent=0.3, end_percent=0.8)
    records = recorded(loaded, timeline, settings, steps=6)
    sigma_at = loaded.model.get_model_object("model_sampling").percent_to_sigma
    high, low = float(sigma_at(0.3)), float(sigma_at(0.8))
    levels = {record.call.evaluation.sigma for record in records}
    active = {sigma for sigma in levels if low * 1.0001 < sigma <= high * 1.0001}
    assert active and len(levels) == 6 and active < levels
    changed = {
        (record.call.block, record.call.evaluation.sigma)
        for record in records
        for q, k, v, mask, out in record.parts().values()
        if not torch.allclose(out, attention(q, k, v, mask), atol=1e-5)
    }
    assert changed == {(1, sigma) for sigma in active}


@pytest.mark.parametrize("name", ["wan21", "hunyuan_video"])
@pytest.mark.parametrize(
    "base, change",
    [
        ({}, {"mode": PAPER}),
        ({}, {"source": FIRST}),
        ({"source": CHOSEN}, {"source_shot": 2}),
        ({}, {"shots": (3,)}),
        ({}, {"across_cuts": False}),
        ({}, {"join": EXTEND}),
        ({}, {"placement": BEFORE}),
        ({}, {"placement": TRUE}),
        ({}, {"strength": 0.5}),
        ({}, {"share_text": False}),
        ({}, {"layers": frozenset({1})}),
        ({}, {"start_percent": 0.5}),
        ({}, {"end_percent": 0.5}),
    ],
    ids=lambda value: "-".join(map(str, value)),
)
def test_every_setting_changes_the_result(tiny, name, base, change):
    loaded = tiny(name)
    timeline = story(loaded.model)
    base = dataclasses.replace(PLAIN, **base)
    one, other = (
        sample(loaded, timeline, settings, steps=3) for settings in (base, dataclasses.replace(base, **change))
    )
    assert torch.isfinite(other).all() and not torch.equal(one, other)


def test_segments_before_the_source_and_shots_that_do_not_read_are_made_by_themselves(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, transitions=("continue", "cut", "cut"))
    one = sample(loaded, timeline, dataclasses.replace(PLAIN, shots=(3,)), steps=2)
    plain = sample(loaded, timeline, steps=2)
    border = timeline.shots[2].start_frame
    assert torch.equal(one[:, :, :border], plain[:, :, :border])
    assert not torch.equal(one[:, :, border:], plain[:, :, border:])


def test_the_papers_mode_evaluates_segments_that_read_and_are_read_twice(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    evaluations = {}
    for mode in (FAST, PAPER):
        watcher = Watcher()
        model = patching.attach(patching.attach(loaded.model, dataclasses.replace(PLAIN, mode=mode)), watcher)
        sample(loaded, timeline, model=model)
        evaluations[mode] = [(e.segment, e.role) for e in watcher.evaluations]
    last = len(timeline.segments) - 1
    assert evaluations[FAST] == [(0, SOURCE)] + [(n, READER) for n in range(1, last + 1)]
    middle = [(n, role) for n in range(1, last) for role in (READER, SOURCE)]
    assert evaluations[PAPER] == [(0, SOURCE), *middle, (last, READER)]


# Memory


class Noted(KVShare):
    """Remembers its runs without keeping them."""

    runs: ClassVar[list] = []

    def start(self, start):
        run = super().start(start)
        self.runs.append(weakref.ref(run))
        return run


def noted(**changes) -> Noted:
    Noted.runs = []
    return Noted(**{field.name: getattr(PLAIN, field.name) for field in dataclasses.fields(PLAIN)} | changes)


@pytest.mark.parametrize("mode, source, most", [(FAST, PREVIOUS, 1), (PAPER, PREVIOUS, 1), (FAST, FIRST, 0)])
def test_no_more_is_kept_than_is_still_to_be_read(tiny, every_tiny, mode, source, most):
    """One source's sites, and one site more where what is kept takes the place of what was just read."""
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    settings, counts, sites = noted(mode=mode, source=source), [], set()

    def count(call, next_attention):
        out = next_attention(call.q, call.k, call.v, call.mask)
        kept = Noted.runs[0]().cache.kept
        counts.append(sum(map(len, kept.values())))
        sites.update(site for of_segment in kept.values() for site in of_segment)
        return out

    watcher = Watcher(count)
    sample(loaded, timeline, model=patching.attach(patching.attach(loaded.model, settings), watcher), steps=2)
    watcher.calls.clear()  # they hold keys and values
    assert {block for block, _ in sites} == settings.layers
    assert len(sites) <= max(counts) <= len(sites) + most
    assert Noted.runs[0]() is None and LEDGER.bytes_of(NAME) == 0


@pytest.mark.parametrize("error", [ValueError, comfy.model_management.InterruptProcessingException])
def test_an_error_or_an_interrupt_lets_everything_go(tiny, error):
    loaded, calls = tiny("wan21"), []

    def fail(call, next_attention):
        calls.append(len(Noted.runs[0]().cache.labels()))
        if len(calls) == 30:
            raise error
        return next_attention(call.q, call.k, call.v, call.mask)

    watcher = Watcher(fail)
    model = patching.attach(patching.attach(loaded.model, noted()), watcher)
    with pytest.raises(error):
        sample(loaded, story(loaded.model), model=model)
    assert max(calls) > 0
    watcher.calls.clear()  # they hold keys and values
    gc.collect()
    assert LEDGER.bytes_of(NAME) == 0 and Noted.runs[0]() is None


# Refusals


def counted(model) -> tuple:
    """A clone that counts the network's forwards."""
    model, forwards = model.clone(), []

    def count(executor, *args, **kwargs):
        forwards.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "counter", count)
    return model, forwards


def test_a_sampler_without_a_timeline_is_refused_before_the_network_is_called(tiny):
    loaded = tiny("wan21")
    model, forwards = counted(loaded.model)
    prompt = tiny_sampling.encode(loaded.clip, SHORT)
    with pytest.raises(ValueError, match="this sampler has no timeline; wire Longreel Latent Blend"):
        tiny_sampling.sample(patching.attach(model, PLAIN), prompt, prompt, torch.zeros(1, 16, 5, 8, 8))
    assert not forwards


def test_windows_inside_segments_are_refused_before_the_network_is_called(tiny):
    loaded = tiny("wan21")
    model, forwards = counted(loaded.model)
    model = WanContextWindowsManualNode.execute(model, 9, 4, "standard_static", 1, False, "pyramid", False)[0]
    with pytest.raises(
        ValueError, match="another context handler on this model cuts it up; remove the context windows node"
    ):
        sample(loaded, story(loaded.model), PLAIN, model)
    assert not forwards


def test_a_second_kv_share_is_refused_by_name(tiny):
    model = patching.attach(tiny("wan21").model, PLAIN)
    with pytest.raises(ValueError, match="Longreel KV Share and Longreel KV Share cannot work on one model"):
        patching.attach(model, PLAIN)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"source": CHOSEN, "source_shot": 3}, "none of the 4 segments has a source to read from"),
        (
            {"source": CHOSEN, "source_shot": 2, "shots": (1,)},
            "shot 1 would read from shot 2, which does not come before",
        ),
        ({"source": CHOSEN, "source_shot": 4}, "source_shot 4 is not in a timeline of 3 shots"),
        ({"shots": (7,)}, "shots 7 is not in a timeline of 3 shots"),
        ({"start_percent": 0.6, "end_percent": 0.6}, "start 0.6 and end 0.6 hold no step"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_the_network_is_called(tiny, change, message):
    loaded = tiny("wan21")
    model, forwards = counted(loaded.model)
    with pytest.raises(ValueError, match=message):
        sample(loaded, story(loaded.model), dataclasses.replace(PLAIN, **change), model)
    assert not forwards


@pytest.fixture(scope="module")
def without_rotary_positions(tiny):
    """A tiny CogVideoX with positions stored in the file, as CogVideoX-2B's are, through core's loader."""
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    module = CogVideoXTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=64,
        num_layers=3,
        time_embed_dim=64,
        text_embed_dim=32,
        use_learned_positional_embeddings=True,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    model = comfy.sd.load_diffusion_model_state_dict(draw_weights(Checkpoint(module, seed=32)))
    return SimpleNamespace(model=model, clip=tiny("cogvideox10").clip)


@pytest.mark.parametrize("placement", [BEFORE, TRUE])
def test_moving_keys_without_rotary_positions_is_refused_before_a_forward(without_rotary_positions, placement):
    loaded = without_rotary_positions
    model, forwards = counted(loaded.model)
    with pytest.raises(ValueError, match=f"placement {placement} .* this network has no rotary positions .* aligned"):
        sample(loaded, story(loaded.model), dataclasses.replace(PLAIN, placement=placement), model)
    assert not forwards


def test_a_network_without_rotary_positions_shares_aligned(without_rotary_positions):
    loaded = without_rotary_positions
    timeline = story(loaded.model)
    assert_readers_read_their_source(recorded(loaded, timeline, PLAIN), timeline, PLAIN)


def test_keys_under_a_mask_of_their_own_in_self_attention_are_refused(tiny):
    """As core's guide pictures of LTXV have it whose strength is not 1; the mask is put there by a watcher."""
    loaded = tiny("ltxv")

    def weaken(call, next_attention):
        return next_attention(
            call.q, call.k, call.v, torch.zeros(1, 1, 1, call.k.shape[2]) if call.kind == SELF else call.mask
        )

    model = patching.attach(patching.attach(loaded.model, PLAIN), Watcher(weaken))
    with pytest.raises(ValueError, match="give every guide picture strength 1"):
        sample(loaded, story(loaded.model), model=model)


def test_a_block_that_another_node_skips_is_missed_by_name(tiny):
    loaded = tiny("wan21")
    model = loaded.model.clone()
    model.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 2)
    with pytest.raises(RuntimeError, match="2 of 4 attention calls that Longreel KV Share works on never came"):
        sample(loaded, story(loaded.model), PLAIN, model)
    sample(loaded, story(loaded.model), dataclasses.replace(PLAIN, layers=frozenset({1})), model)
