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

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

import comfy.patcher_extension as extension

from ...engine.attention import prompt_edit
from ...engine.attention.kv_share import KeysValues
from ...engine.plan.needs import AS_MADE, CARD, AttentionSize, Keep, Need
from ...engine.plan.spans import NoiseSpan
from .. import keys
from ..attention import patching
from ..attention.feature import Bystander, Evaluation, Start
from ..attention.kv_cache import KVCache
from ..families.sites import CROSS, SELF, Call
from ..prompts import conditioning
from ..types import Attention, ModelPatcher
from .original import NAME, SOURCE, evaluate_both, sample_both, span_of


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
        layout, reweighted = span_of(self.layout, start.model), span_of(self.reweight, start.model)
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
        (extension.WrappersMP.OUTER_SAMPLE, sample_both),
        (extension.WrappersMP.CALC_COND_BATCH, evaluate_both),
    ):
        # Outside all other wrappers, so that each of them sees two whole samplings.
        model.wrappers[kind] = {keys.PROMPT_EDIT: [wrapper], **model.wrappers[kind]}
    return model


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


class PromptEditRun(Bystander):
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
