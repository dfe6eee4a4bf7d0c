"""Prompt editing on a MODEL of any family, at the taps of hosts/attention/patching.py.

Words count more or less (engine/attention/prompt_edit.py), and an original video lends its layout to another prompt.
Source: the editing mode of DiTCtrl (arXiv 2412.18597) and of its public code, where both videos are rows of one batch
and share every draw of noise. Here the original is sampled first, with the same noise, as far as its layout is read;
what the network was shown is noted. When the edited video comes to the same window and noise level, the network is
shown the original's once more, and its keys and values are read in place of the edited video's own. Nothing of the
sampler is doubled, so every guider, context handler and sampler of fixed steps works as it does for one video; the
notes cost one latent for each evaluation, in main memory, and the keys and values of one window.

Joint attention reads all of the original's keys and values, text included, as in that code. Where text has a cross
attention of its own, that stays the edited prompt's, or nothing of the edit would be heard. Words count in the positive
prompt alone: the tokens at the same places of a negative prompt are other words.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

import comfy.model_management
import comfy.patcher_extension as extension
import comfy.sampler_helpers

from ...engine.attention import prompt_edit
from ...engine.attention.kv_share import KeysValues
from ...engine.plan.needs import AS_MADE, CARD, AttentionSize, Keep, Need
from ...engine.plan.spans import NoiseSpan
from .. import keys
from ..attention import neighbours, patching
from ..attention.kv_cache import KVCache
from ..attention.neighbours import other_cache
from ..attention.noise_level import read_once
from ..attention.patching import Evaluation, Start
from ..attention.step_caches import CACHE
from ..families.sites import CROSS, SELF, Call
from ..prompts import conditioning
from ..types import Attention, BaseModel, Callback, CondLists, Executor, ModelOptions, ModelPatcher, Sampler
from ..windows import latent_blend
from ..windows.progress import ProgressText

NAME = "Longreel Prompt Edit"
SOURCE = "source"  # the role in which the original is shown again
MOST_PINNED_BYTES = 2 * 2**30  # of notes: the system cannot use pinned memory otherwise, and torch takes up to twice
MADE_BY_OTHERS = ("hooks", "control")  # made ready before a sampler starts, for the guider's own conditioning alone


@dataclass(frozen=True)
class Reweight:
    """These words count `weight` times, in a form of engine/attention/prompt_edit.py.

    Percents are parts of the schedule.
    """

    words: tuple[str, ...]
    weight: float
    form: str
    start_percent: float
    end_percent: float


@dataclass(frozen=True)
class Layout:
    """An original lends its layout.

    `original` is its CONDITIONING, or None for the edited one's; percents say when its keys and values are read.
    """

    original: list | None
    start_percent: float
    end_percent: float


@dataclass(frozen=True)
class PromptEdit:
    """These settings edit by words, by layout or by both, in `layers`, the blocks of the network.

    `keep` says where and how the original's keys and values are kept.
    """

    layers: frozenset[int]
    reweight: Reweight | None = None
    layout: Layout | None = None
    keep: Keep = AS_MADE

    name = NAME
    excludes: ClassVar[dict[str, str]] = {}
    replaces_keys = True
    not_in_rollout = "it samples an original beside the whole video; use mode joint"

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Return in which percents of the schedule it works."""
        return tuple((part.start_percent, part.end_percent) for part in (self.reweight, self.layout) if part)

    def start(self, start: Start) -> "PromptEditRun":
        """Begin a run. Raises ValueError as `check_words` does."""
        self.check_words(start.conds)
        layout, reweighted = _span(self.layout, start.model), _span(self.reweight, start.model)
        for what, span in (("copies the layout", layout), ("reweights", reweighted)):
            if span:
                patching.say_steps(NAME, what, span, start)
        return PromptEditRun(self, layout, reweighted, start.places.get(NAME, CARD))

    def need(self, size: AttentionSize) -> Need:
        """Return the bytes of the original's keys and values of one window; none where no layout is copied."""
        kinds = [kind for kind, block in size.sites if block in self.layers and kind != CROSS]
        tokens = [size.tokens_of(kind) for kind in kinds] if self.layout else []
        kept = sum(size.bytes_of(count, self.keep.form) for count in tokens)
        return size.need(NAME, kept=kept, tokens=max(tokens, default=0), keep=self.keep)

    def check_words(self, conds: dict[str, list[dict]]) -> None:
        """Check that the words are there.

        Raises ValueError for a word that none of the positive prompts has, and where their tokens are not known.
        """
        if self.reweight is None:
            return
        words, entries = self.reweight.words, conds.get(conditioning.POSITIVE, [])
        if not words:
            raise ValueError("there are no words to reweight; name words of the prompt, with commas between")
        strangers = sum(keys.WORDS not in entry for entry in entries)
        if strangers or not entries:
            raise ValueError(
                f"{strangers} of {len(entries)} positive conditioning entries do not come from Longreel "
                f"Encode, and their words are not known; wire its output"
            )
        spoken = [one for entry in entries for one in entry[keys.WORDS]]
        for word in words:
            if not any(_places(one, [word]) for one in spoken):
                heard = dict.fromkeys(known.text for one in spoken for known in one.words)
                raise ValueError(f'"{word}" is in none of the positive prompts; use words of {", ".join(heard)}')


def attach(model: ModelPatcher, edit: PromptEdit):
    """Return a clone of `model` that samples the edited video.

    Raises ValueError beside Longreel KV Share, for a second edit, and for a weight that its form cannot take.
    """
    if edit.reweight:
        prompt_edit.check_weight(edit.reweight.weight, edit.reweight.form)
    model = patching.attach(model, edit)
    for kind, wrapper in (
        (extension.WrappersMP.OUTER_SAMPLE, _sample_both),
        (extension.WrappersMP.CALC_COND_BATCH, _evaluate_both),
    ):
        # Outside all other wrappers, so that each of them sees two whole samplings.
        model.wrappers[kind] = {keys.PROMPT_EDIT: [wrapper], **model.wrappers[kind]}
    return model


def _span(percents: Reweight | Layout | None, model: BaseModel) -> NoiseSpan | None:
    if percents is None:
        return None
    return NoiseSpan.of(percents.start_percent, percents.end_percent, model.model_sampling.percent_to_sigma)


def _places(spoken: conditioning.Spoken, words: Sequence[str]) -> list[int]:
    """Return the positions in the text of those of the words that the prompt has.

    Raises ValueError where its tokens are not known.
    """
    if spoken.unknown:
        raise ValueError(spoken.unknown)
    return spoken.positions(word for word in words if _is_there(spoken, word))


def _is_there(spoken: conditioning.Spoken, word: str) -> bool:
    try:
        spoken.positions([word])
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Shown:
    """The network was shown this of the original: one window, on the CPU, at one noise level."""

    x: torch.Tensor  # [B, C, F, H, W]
    sigma: float
    conds: list[list[dict] | None]

    def x_on(self, like: torch.Tensor) -> torch.Tensor:
        """Return x on the device of `like`, which comes by at the same place."""
        return self.x.to(like, non_blocking=_may_run_ahead(like))


@dataclass
class Notes:
    """These notes hold all of the original that the edited video will read, in the order in which it will come by.

    `over` once the original's sampler has left `span`: from there on nobody looks at it, and the network is not asked.
    """

    span: NoiseSpan
    shown: deque[Shown] = field(default_factory=deque)
    complete: bool = False
    over: bool = False
    progress: ProgressText = field(default_factory=ProgressText)
    pinned_bytes: int = 0

    def note(self, x: torch.Tensor, sigma: float, conds: list[list[dict] | None]) -> None:
        """Keep what the original is shown now: x [B, C, F, H, W] at this noise level.

        A copy that does not wait goes into pinned memory, which the device alone reads again, and in the same order.
        """
        run_ahead = _may_run_ahead(x) and self.pinned_bytes + x.nbytes <= MOST_PINNED_BYTES
        self.pinned_bytes += x.nbytes * run_ahead
        self.shown.append(Shown(x.detach().to("cpu", copy=True, non_blocking=run_ahead), sigma, conds))

    def take(self, x: torch.Tensor, sigma: float) -> Shown:
        """Return what the original was shown next. Raises RuntimeError where the two samplings went different ways."""
        if not self.shown or self.shown[0].sigma != sigma or self.shown[0].x.shape != x.shape:
            there = f"{self.shown[0].sigma:.4g}" if self.shown else "none"
            raise RuntimeError(
                f"the edited video is at noise level {sigma:.4g} and its original at {there}: the "
                f"sampler chooses its steps by what it sees; use one with fixed steps, such as euler"
            )
        return self.shown.popleft()


def _sample_both(
    executor: Executor,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Sampler,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    callback: Callback | None = None,
    disable_pbar: bool = False,
    *args,
    **kwargs,
):
    """OUTER_SAMPLE: the original, as far as it is needed, and then the edited video. Only that one is reported."""
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    edit = next(feature for feature in options[keys.FEATURES] if feature.name == NAME)

    def sample(conds: dict[str, list[dict]], noise: torch.Tensor, callback: Callback | None, disable_pbar: bool):
        guider.conds = {name: [dict(entry) for entry in entries] for name, entries in conds.items()}
        handler = guider.model_options.get("context_handler")
        if isinstance(handler, latent_blend.TimelineHandler):
            guider.model_options["context_handler"] = handler.for_new_run()  # it counts evaluations
        own = sigmas.clone()  # the sampling after this one has the same, and some samplers write into them
        return executor(noise, latent_image, sampler, own, denoise_mask, callback, disable_pbar, *args, **kwargs)

    edit.check_words(guider.conds)
    if edit.layout is None:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, *args, **kwargs)
    if CACHE in options or other_cache(options):
        raise ValueError(
            f"{NAME} samples an original and an edited video in the same steps, and a node on this model (EasyCache, "
            f"LazyCache, TeaCache) skips steps of each by what it sees; remove that node"
        )
    neighbours.check(edit, True, guider)  # before the original
    edited = guider.conds
    original = _conds_of_original(edited, edit.layout)
    features = options[keys.FEATURES]
    notes = options[keys.PROMPT_EDIT] = Notes(_span(edit.layout, guider.model_patcher.model))
    device = guider.model_patcher.load_device
    try:
        options[keys.FEATURES] = tuple(feature for feature in features if feature is not edit)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # samplers without a seed draw from it
            sample(original, noise.clone(), None, True)
        options[keys.FEATURES], notes.complete = features, True
        return sample(edited, noise, callback, disable_pbar)
    finally:
        options[keys.FEATURES] = features
        del options[keys.PROMPT_EDIT]


def _conds_of_original(edited: dict[str, list[dict]], layout: Layout) -> dict[str, list[dict]]:
    if conditioning.POSITIVE not in edited:
        raise ValueError(
            f"{NAME} puts the original in the place of the positive prompt, and this guider has none of that "
            f"name, only {', '.join(edited)}; use CFGGuider or KSampler"
        )
    if layout.original is None:
        return edited
    original = comfy.sampler_helpers.convert_cond(layout.original)
    for key in MADE_BY_OTHERS:
        number = sum(key in entry for entry in original)
        if number:
            raise ValueError(
                f"{number} of {len(original)} entries of the original conditioning carry a {key}, which is "
                f"made ready for the edited prompt alone; wire it straight from Longreel Encode"
            )
    return {**edited, conditioning.POSITIVE: original}


def _evaluate_both(
    executor: Executor,
    model: BaseModel,
    conds: CondLists,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: ModelOptions,
):
    """CALC_COND_BATCH: notes what is shown of the original, and shows it again before the edited video's."""
    options = model_options["transformer_options"]
    notes: Notes | None = options.get(keys.PROMPT_EDIT)
    if notes is None:
        return executor(model, conds, x, timestep, model_options)
    comfy.model_management.throw_exception_if_processing_interrupted()
    with read_once(timestep, options) as sigma:
        return _evaluate_at(sigma, notes, executor, model, conds, x, timestep, model_options)


def _evaluate_at(
    sigma: float,
    notes: Notes,
    executor: Executor,
    model: BaseModel,
    conds: CondLists,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: ModelOptions,
):
    """Evaluate one window of the original, or of the edited video behind what was noted of the original."""
    options, in_span = model_options["transformer_options"], notes.span.holds(sigma)
    if notes.complete:
        if in_span:
            shown = notes.take(x, sigma)
            segment, _ = options.get(keys.SEGMENT_AND_ROLE, (None, patching.WHOLE))
            told = {**model_options, "transformer_options": {**options, keys.SEGMENT_AND_ROLE: (segment, SOURCE)}}
            executor(model, shown.conds, shown.x_on(x), timestep, told)
        return executor(model, conds, x, timestep, model_options)
    notes.over = notes.over or (not in_span and sigma < notes.span.high)
    if notes.over:
        return [x.clone() for _ in conds]
    notes.progress.show(f"original, noise level {sigma:.3g}")
    if in_span:
        notes.note(x, sigma, conds)
    return executor(model, conds, x, timestep, model_options)


def _may_run_ahead(x: torch.Tensor) -> bool:
    return comfy.model_management.device_supports_non_blocking(x.device)


class PromptEditRun(patching.Bystander):
    """This is one run of the sampler, on the edited video; what is kept of the original lasts for one window."""

    needs_every_evaluation = True

    def __init__(self, edit: PromptEdit, layout: NoiseSpan | None, reweighted: NoiseSpan | None, place: str):
        self.edit, self.layout, self.reweighted = edit, layout, reweighted
        self.cache = KVCache(NAME, edit.keep, place)  # the one label is SOURCE
        self.shown: list[list[dict] | None] = []  # the original's conditioning
        self.factors: dict[Hashable, torch.Tensor] = {}  # of one evaluation, whose layers all have the same

    def begin(self, evaluation: Evaluation) -> None:
        """Let go what was kept of the window before."""
        self.factors = {}
        if evaluation.role == SOURCE:
            self.shown = evaluation.conds
        if evaluation.role == SOURCE or not self._copies(evaluation):
            self.cache.drop(SOURCE)

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Return whether this block lends its layout, copies one, or reweights words in this evaluation."""
        if block not in self.edit.layers:
            return False
        copies = kind != CROSS and self._copies(evaluation)
        return copies or (evaluation.role != SOURCE and self._reweights(kind, evaluation))

    def _copies(self, evaluation: Evaluation) -> bool:
        return self.layout is not None and self.layout.holds(evaluation.sigma)

    def _reweights(self, kind: str, evaluation: Evaluation) -> bool:
        if kind == SELF or self.reweighted is None or self.edit.reweight.weight == 1:
            return False
        return self.reweighted.holds(evaluation.sigma)

    def attend(self, call: Call, next_attention: Attention) -> torch.Tensor:
        """Return [B, H, Sq, D], with the original's keys and values, and with words reweighted, where that is asked."""
        evaluation = call.evaluation
        copies = call.kind != CROSS and self._copies(evaluation)
        if evaluation.role == SOURCE:
            self.cache.put(SOURCE, call)
            return next_attention(call.q, call.k, call.v, call.mask)
        if not copies:
            own = KeysValues(call.k, call.v, call.mask, call.text_tokens)
            tokens = call.k.shape[2] if call.kind == CROSS else call.text_tokens
            return self._reading(call, next_attention, evaluation.conds, tokens)(call.q, own, own)
        reading = self.cache.read(SOURCE, call)
        return reading.attend(self._reading(call, next_attention, self.shown, reading.text_tokens))

    def _reading(self, call: Call, next_attention: Attention, heard: list[list[dict] | None], text_tokens: int):
        """Return attention (q, own, read) on `read`, in which the words of the prompts `heard` count as they should.

        text_tokens: those that are read.
        """
        if not self._reweights(call.kind, call.evaluation):
            return lambda q, own, read: next_attention(q, read.k, read.v, read.mask)
        of_keys = self._factors(call, heard, text_tokens)
        of_queries = self._factors(call, call.evaluation.conds, call.text_tokens)
        form = self.edit.reweight.form
        return lambda q, own, read: prompt_edit.reweight(next_attention, q, read, of_keys, of_queries, form)

    def _factors(self, call: Call, conds: list[list[dict] | None], tokens: int) -> torch.Tensor:
        """Return [B, tokens]: how much each text token of these prompts counts."""
        place = id(conds), call.rows, call.entries, tokens, call.forward.prompt_start, call.q.shape[0]
        if place not in self.factors:
            self.factors[place] = self._made_factors(call, conds, tokens)
        return self.factors[place]

    def _made_factors(self, call: Call, conds: list[list[dict] | None], tokens: int) -> torch.Tensor:
        positive = conditioning.number_of(conds, conditioning.POSITIVE)
        shares = torch.zeros(len(call.rows), tokens)
        for row, (prompt, entry) in enumerate(zip(call.rows, call.entries, strict=True)):
            if prompt == positive and tokens:
                for spoken in conds[prompt][entry].get(keys.WORDS, ()):
                    places = _places(spoken, self.edit.reweight.words)
                    shares[row, [call.forward.prompt_start + place for place in places]] += spoken.share
        factors = prompt_edit.word_factors(shares, self.edit.reweight.weight)
        return factors.repeat_interleave(call.q.shape[0] // len(call.rows), dim=0)
