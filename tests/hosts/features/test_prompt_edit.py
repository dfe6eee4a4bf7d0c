"""hosts/features/prompt_edit.py on every family, behind core's samplers, with and without a timeline."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import node_helpers
from comfy.patcher_extension import WrappersMP

from longreel.engine.attention.prompt_edit import AFTER_SOFTMAX, FORMS, LOGITS
from longreel.engine.plan.needs import Need
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.sampling.latent_blend import BLENDS
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import block_count, facts_of, keys
from longreel.hosts.attention import patching
from longreel.hosts.attention.feature import Start
from longreel.hosts.features import prompt_edit
from longreel.hosts.features.prompt_edit import Layout, PromptEdit, Reweight
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling

PINK, BLUE = "a pink circle moves right", "a blue square moves slowly left"
SECONDS = {4: 1.0, 8: 2.0}  # per temporal stride: four latent frames at 16 fps
EVERYWHERE = frozenset({0, 1, 2})


def timeline_of(model, *prompts):
    facts = facts_of(model)
    shots = tuple(Shot(prompt, SECONDS[facts.temporal_stride], transition="blend") for prompt in prompts)
    board = Storyboard(shots=shots, width=64, height=64, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=5, overlap_frames=2, transition_prompts=1)


def encode(loaded, *prompts):
    with torch.inference_mode():
        return conditioning.encode_timeline(loaded.clip, timeline_of(loaded.model, *prompts))


def empty(loaded, *prompts):
    timeline = timeline_of(loaded.model, *prompts)
    facts = timeline.facts
    return torch.zeros(
        1,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )


def run(loaded, edit=None, prompts=(PINK,), blend=None, model=None, **options):
    """The video of `prompts`, edited or not; several are blended."""
    model = model or loaded.model
    if edit is not None:
        model = prompt_edit.attach(model, edit)
    if blend or len(prompts) > 1:
        model = latent_blend.attach(model, timeline_of(loaded.model, *prompts), blend or "triangle")
    positive, negative = encode(loaded, *prompts)
    return tiny_sampling.sample(model, positive, negative, empty(loaded, *prompts), **{"steps": 3, **options})


def reweight(*words, weight=0.0, form=AFTER_SOFTMAX, start=0.0, end=1.0, layers=EVERYWHERE, layout=None):
    return PromptEdit(layers, Reweight(words or ("pink",), weight, form, start, end), layout)


def swap(original, start=0.0, end=1.0, layers=EVERYWHERE):
    return PromptEdit(layers, layout=Layout(original, start, end))


class Recorder:
    """A CALC_COND_BATCH wrapper that keeps what the network was shown: latents, noise level and number of frames."""

    def __init__(self, model):
        self.shown = []
        self.model = model.clone()
        self.model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "recorder", self)

    def __call__(self, executor, model, conds, x, timestep, model_options):
        self.shown.append((x.clone(), float(timestep[0]), conds))
        return executor(model, conds, x, timestep, model_options)


class Attention:
    """A feature that only looks: every call that reaches it, by kind and block, with what came out of it."""

    name, excludes = "test attention", {}

    def __init__(self):
        self.calls = []

    def start(self, start):
        return self

    def need(self, size):
        return Need(self.name)

    def roles(self, segment):
        return ()

    def begin(self, evaluation):
        pass

    def wants(self, kind, block, evaluation):
        return True

    def attend(self, call, next_attention):
        out = next_attention(call.q, call.k, call.v, call.mask)
        self.calls.append((call, out.clone()))
        return out


def watched(loaded, edit, prompts=(PINK,), **options):
    """(what the edit handed to the network's attention, what the attention modules asked the edit for), from the first
    evaluation of the edited video on."""
    inner, outer = Attention(), Attention()
    outer.name = "test outer attention"
    model = patching.attach(loaded.model, inner)
    model = patching.attach(prompt_edit.attach(model, edit), outer)
    run(loaded, None, prompts, model=model, **options)
    roles = [call.evaluation.role for call, _ in outer.calls]
    begin = roles.index(prompt_edit.SOURCE) if edit.layout else 0
    return inner.calls[begin:], outer.calls[begin:]


def test_weight_one_without_a_layout_is_neutral_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    assert torch.equal(run(loaded, reweight(weight=1.0)), run(loaded))


def test_swapping_a_prompt_for_itself_is_neutral_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    for prompts in [(PINK,), (PINK, BLUE)]:
        plain = run(loaded, None, prompts)
        assert torch.equal(run(loaded, swap(encode(loaded, *prompts)[0]), prompts), plain)
        assert torch.equal(run(loaded, reweight(weight=1.0, layout=Layout(None, 0.0, 0.5)), prompts), plain)


@pytest.mark.parametrize("form", FORMS)
def test_every_family_reweights_words(tiny, every_tiny, form):
    loaded = tiny(every_tiny.name)
    plain, less, more = run(loaded), run(loaded, reweight(form=form)), run(loaded, reweight(weight=2.0, form=form))
    assert torch.isfinite(less).all() and torch.isfinite(more).all()
    assert not torch.equal(plain, less) and not torch.equal(plain, more) and not torch.equal(less, more)


def test_every_family_copies_the_layout_of_an_original(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    edited, other = (run(loaded, swap(encode(loaded, original)[0])) for original in (BLUE, "a tree"))
    assert torch.isfinite(edited).all()
    assert not torch.equal(edited, run(loaded)) and not torch.equal(edited, other)


@pytest.mark.parametrize("form", FORMS)
def test_at_weight_zero_the_video_hears_nothing_of_the_word(tiny, every_tiny, form):
    """On tensors: what comes out for the video's queries is the same whatever the word's values are."""
    loaded = tiny(every_tiny.name)
    _, outer = watched(loaded, reweight(form=form), steps=1)
    run_of_edit = PromptEdit.start(reweight(form=form), start_of(loaded))
    seen = 0
    for call, out in outer:
        if call.kind == "self" or call.block not in EVERYWHERE:
            continue
        positive = conditioning.number_of(call.evaluation.conds, "positive")
        row = call.rows.index(positive)
        word = call.forward.prompt_start + 1  # "a pink circle ..."
        v = call.v.clone()
        v[row, :, word] += 50.0
        again = run_of_edit.attend(dataclasses.replace(call, v=v), sdpa)
        plain = sdpa(call.q, call.k, v, call.mask)
        assert torch.allclose(again[row, :, call.text_tokens :], out[row, :, call.text_tokens :], atol=1e-4)
        assert not torch.allclose(plain[row, :, call.text_tokens :], out[row, :, call.text_tokens :], atol=1e-2)
        seen += 1
    assert seen


PICTURE, QUOTED = 7, 5  # tokens


def test_words_of_hunyuan_video_15_are_found_behind_a_picture_and_quoted_text(tiny):
    """On tensors: in every block the video hears all text tokens but one, and that is the word's."""
    loaded = tiny("hunyuan_video15")
    seen = SimpleNamespace(last_hidden_state=torch.randn(1, PICTURE, 1152))  # as a CLIP vision encoder returns it
    more = {"clip_vision_output": seen, "conditioning_byt5small": torch.randn(1, QUOTED, 1472)}
    conds = [node_helpers.conditioning_set_values(entries, more) for entries in encode(loaded, PINK)]
    edit, outer = reweight(form=AFTER_SOFTMAX), Attention()
    model = patching.attach(prompt_edit.attach(loaded.model, edit), outer)
    tiny_sampling.sample(model, *conds, empty(loaded, PINK), steps=1)
    run_of_edit = PromptEdit.start(edit, start_of(loaded))
    assert len(outer.calls) == len(EVERYWHERE)
    for call, out in outer.calls:
        row = call.rows.index(conditioning.number_of(call.evaluation.conds, "positive"))
        video, unheard = slice(call.text_tokens, None), []
        for place in range(call.text_tokens):
            v = call.v.clone()
            v[row, :, place] += 50.0
            again = run_of_edit.attend(dataclasses.replace(call, v=v), sdpa)
            if torch.allclose(again[row, :, video], out[row, :, video], atol=1e-4):
                unheard.append(place)
        assert unheard == [PICTURE + QUOTED + PINK.split().index("pink")]


def sdpa(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def start_of(loaded):
    conds = {"positive": [{**entry[1]} for entry in encode(loaded, PINK)[0]]}
    return Start(loaded.model.model, None, None, conds, torch.ones(1))


def test_the_negative_prompt_keeps_its_words(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    _, outer = watched(loaded, reweight(weight=5.0), steps=1)
    for call, out in outer:
        positive = conditioning.number_of(call.evaluation.conds, "positive")
        for row, prompt in enumerate(call.rows):
            if prompt != positive:
                plain = sdpa(call.q, call.k, call.v, call.mask)
                assert torch.allclose(out[row], plain[row], atol=1e-5)


def test_a_copied_layout_is_attention_on_the_originals_keys_and_values(tiny, every_tiny):
    """On tensors, both rows of the guidance: the originals' own calls come right before the edited video's."""
    loaded = tiny(every_tiny.name)
    inner, outer = watched(loaded, swap(encode(loaded, BLUE)[0]), steps=1)
    sources = {
        (call.kind, call.block, call.rows): call for call, _ in inner if call.evaluation.role == prompt_edit.SOURCE
    }
    copied = 0
    for call, out in outer:
        if call.evaluation.role == prompt_edit.SOURCE or call.block not in EVERYWHERE or call.kind == "cross":
            continue
        source = sources[call.kind, call.block, call.rows]
        if call.block:
            assert not torch.equal(source.k, call.k)
        assert torch.allclose(out, sdpa(call.q, source.k, source.v, source.mask), atol=1e-5)
        copied += 1
    assert copied == min(3, block_count(loaded.model))


def test_the_original_is_never_changed_by_the_edit(tiny, every_tiny):
    """What the network is shown of it is what it is shown when the original is sampled alone."""
    loaded = tiny(every_tiny.name)
    alone, beside = Recorder(loaded.model), Recorder(loaded.model)
    run(loaded, None, (BLUE,), model=alone.model)
    edit = reweight(weight=3.0, layout=Layout(encode(loaded, BLUE)[0], 0.0, 1.0), layers=frozenset({0}))
    run(loaded, edit, model=beside.model)
    first, then = beside.shown[:3], beside.shown[3:]
    for (x, sigma, _), (expected, level, _) in zip(first, alone.shown, strict=True):
        assert sigma == level and torch.equal(x, expected)
    for (x, sigma, _), (expected, level, _) in zip(then[::2], alone.shown, strict=True):
        assert sigma == level and torch.equal(x, expected)
    assert torch.equal(then[1][0], alone.shown[0][0]) and not torch.equal(then[-1][0], alone.shown[-1][0])


def test_the_original_is_evaluated_only_as_far_as_it_is_read(tiny):
    loaded = tiny("wan21")
    recorder = Recorder(loaded.model)
    run(loaded, swap(encode(loaded, BLUE)[0], 0.0, 0.2), model=recorder.model, steps=8)
    read = len(recorder.shown) - 8
    assert 2 <= read < 8 and read % 2 == 0  # each level once for itself and once for its keys and values


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0.5},
        {"words": ("circle",)},
        {"words": ("pink", "circle")},
        {"words": ("pink circle",)},
        {"form": LOGITS},
        {"layers": frozenset({0})},
        {"start": 0.5},
        {"end": 0.5},
    ],
)
def test_every_setting_of_reweighting_changes_the_result(tiny, change):
    loaded = tiny("wan21")
    change, base = dict(change), reweight(weight=0.25)
    words = change.pop("words", ("pink",))
    assert not torch.equal(run(loaded, base), run(loaded, reweight(*words, **{"weight": 0.25, **change})))


@pytest.mark.parametrize("change", [{"start": 0.3}, {"end": 0.3}, {"layers": frozenset({0})}])
def test_every_setting_of_swapping_changes_the_result(tiny, change):
    loaded = tiny("wan21")
    original = encode(loaded, BLUE)[0]
    assert not torch.equal(run(loaded, swap(original), steps=4), run(loaded, swap(original, **change), steps=4))


def test_words_are_found_in_those_shots_that_have_them(tiny):
    loaded = tiny("wan21")
    prompts = (PINK, BLUE)
    plain = run(loaded, None, prompts, blend="cut", steps=1)
    edited = run(loaded, reweight("slowly"), prompts, blend="cut", steps=1)
    segments = timeline_of(loaded.model, *prompts).segments
    untouched = next(s.start_frame for s in segments if len(s.mix) > 1 or s.mix[0][0] == 1)
    assert torch.equal(plain[:, :, :untouched], edited[:, :, :untouched])
    assert not torch.equal(plain, edited)


def test_a_transition_counts_a_word_by_the_share_of_its_prompt(tiny):
    """After the softmax, one layer's values show the factor: the edit multiplies them."""
    loaded = tiny("wan21")
    inner, outer = watched(loaded, reweight("pink", weight=3.0), (PINK, "one two three"), steps=1)
    factors = []
    for (before, _), (after, _) in zip(outer, inner, strict=True):
        if after.kind == "cross" and after.block == 0:
            row = after.rows.index(conditioning.number_of(after.evaluation.conds, "positive"))
            factors.append(round(float((after.v[row, :, 1] / before.v[row, :, 1]).mean()), 3))
    shares = [dict(segment.mix).get(0, 0.0) for segment in timeline_of(loaded.model, PINK, "one two three").segments]
    assert factors == pytest.approx([1 + 2 * share for share in shares])
    assert any(0 < share < 1 for share in shares)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "heun", "uni_pc", "lcm", "ddpm"])
def test_samplers_that_draw_noise_draw_the_same_for_both(tiny, sampler):
    """So a prompt swapped for itself changes nothing."""
    loaded = tiny("wan21")
    plain = run(loaded, sampler=sampler)
    assert torch.equal(run(loaded, swap(encode(loaded, PINK)[0], 0.0, 0.7), sampler=sampler), plain)


@pytest.mark.parametrize("blend", BLENDS)
def test_both_videos_are_blended_alike(tiny, blend):
    """The randomized blend draws the same cuts, whichever node comes first."""
    loaded = tiny("wan21")
    prompts = (PINK, BLUE)
    plain, original = run(loaded, None, prompts, blend=blend), encode(loaded, *prompts)[0]
    assert torch.equal(run(loaded, swap(original), prompts, blend=blend), plain)
    blended = latent_blend.attach(loaded.model, timeline_of(loaded.model, *prompts), blend)
    positive, negative = encode(loaded, *prompts)
    behind = tiny_sampling.sample(
        prompt_edit.attach(blended, swap(original)), positive, negative, empty(loaded, *prompts), steps=3
    )
    assert torch.equal(behind, plain)


def test_cogvideox_edits_in_alpha_space(tiny):
    loaded = tiny("cogvideox10")

    def sample(edit):
        model = loaded.model if edit is None else prompt_edit.attach(loaded.model, edit)
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*encode(loaded, PINK))
        guider.set_cfg(3.0)
        latent = empty(loaded, PINK)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
        sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", 3)
        with torch.inference_mode():
            return guider.sample(noise, latent, AlphaSpaceSampler(), sigmas, seed=4, disable_pbar=True)

    plain = sample(None)
    assert torch.equal(sample(swap(encode(loaded, PINK)[0])), plain)
    assert not torch.equal(sample(swap(encode(loaded, BLUE)[0])), plain)


def test_a_batch_of_two_edits_both(tiny):
    loaded = tiny("wan21")
    positive, negative = encode(loaded, PINK)
    model = prompt_edit.attach(loaded.model, reweight(weight=2.0, layout=Layout(encode(loaded, BLUE)[0], 0.0, 0.5)))
    two = tiny_sampling.sample(model, positive, negative, empty(loaded, PINK).repeat(2, 1, 1, 1, 1), steps=3)
    assert two.shape[0] == 2 and not torch.equal(two[0], two[1])


def test_prompts_of_different_length_can_be_swapped(tiny, every_tiny):
    """Cond, uncond and original then go through the network one by one."""
    loaded = tiny(every_tiny.name)
    long = " ".join(["a very long way of saying that a circle moves to the left"] * 2)
    out = run(loaded, swap(encode(loaded, long)[0]))
    assert torch.isfinite(out).all() and not torch.equal(out, run(loaded))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_guidance_off_edits_too(tiny, cfg):
    loaded = tiny("wan21")
    assert not torch.equal(run(loaded, swap(encode(loaded, BLUE)[0]), cfg=cfg), run(loaded, cfg=cfg))


def counting(loaded):
    """A model that counts the forwards of its network."""
    model, forwards = loaded.model.clone(), []

    def count(executor, *args, **kwargs):
        forwards.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    return model, forwards


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("purple",), '"purple" is in none of the positive prompts; use words of a, pink, circle, moves, right'),
        ((), "there are no words to reweight"),
    ],
)
def test_words_that_are_missing_are_refused_before_sampling(tiny, words, reason):
    loaded = tiny("wan21")
    model, forwards = counting(loaded)
    edit = PromptEdit(EVERYWHERE, Reweight(words, 0.0, AFTER_SOFTMAX, 0.0, 1.0), Layout(None, 0.0, 0.5))
    with pytest.raises(ValueError, match=reason):
        run(loaded, edit, model=model)
    assert not forwards


def test_words_of_conditioning_from_elsewhere_are_refused_before_sampling(tiny):
    loaded = tiny("wan21")
    model, forwards = counting(loaded)
    conds = tiny_sampling.encode(loaded.clip, PINK)
    with pytest.raises(ValueError, match="1 of 1 positive conditioning entries do not come from Longreel Encode"):
        tiny_sampling.sample(prompt_edit.attach(model, reweight()), conds, conds, empty(loaded, PINK))
    assert not forwards


def test_an_original_made_by_core_can_be_swapped(tiny):
    loaded = tiny("wan21")
    by_core = tiny_sampling.encode(loaded.clip, BLUE)
    assert torch.equal(run(loaded, swap(by_core)), run(loaded, swap(encode(loaded, BLUE)[0])))


@pytest.mark.parametrize("key", ["hooks", "control"])
def test_an_original_with_hooks_or_control_is_refused_before_sampling(tiny, key):
    loaded = tiny("wan21")
    model, forwards = counting(loaded)
    original = [[tensor, {**options, key: object()}] for tensor, options in encode(loaded, BLUE)[0]]
    with pytest.raises(
        ValueError, match=f"1 of 1 entries of the original conditioning carry a {key}, which is made ready"
    ):
        run(loaded, swap(original), model=model)
    assert not forwards


def test_a_second_edit_is_refused(tiny):
    model = prompt_edit.attach(tiny("wan21").model, reweight())
    with pytest.raises(ValueError, match="Longreel Prompt Edit and Longreel Prompt Edit cannot work on one model"):
        prompt_edit.attach(model, reweight())


def test_a_sampler_that_chooses_its_own_steps_is_refused_by_name(tiny):
    loaded = tiny("wan21")
    with pytest.raises(RuntimeError, match="the sampler chooses its steps by what it sees; use one with fixed steps"):
        run(loaded, swap(encode(loaded, BLUE)[0]), sampler="dpm_adaptive", steps=4)


def test_an_interrupted_run_leaves_nothing_behind(tiny):
    loaded = tiny("wan21")
    model, forwards = counting(loaded)
    model = prompt_edit.attach(model, swap(encode(loaded, BLUE)[0]))
    plain = run(loaded)
    edited = run(loaded, None, model=model)

    def interrupt(executor, *args, **kwargs):
        comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    for at in (1, 4):  # in the original, in the edited video
        stopped = model.clone()
        forwards.clear()

        def stop(executor, *args, at=at, **kwargs):
            return (interrupt if len(forwards) == at else lambda e, *a, **k: e(*a, **k))(executor, *args, **kwargs)

        stopped.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "stop", stop)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run(loaded, None, model=stopped)
        left = stopped.model_options["transformer_options"]
        assert keys.PROMPT_EDIT not in left and keys.RUNNING not in left
        assert [feature.name for feature in patching.features_of(stopped.model_options)] == [prompt_edit.NAME]
    assert torch.equal(run(loaded), plain) and torch.equal(run(loaded, None, model=model), edited)
