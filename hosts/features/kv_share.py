"""KV sharing on a MODEL of any family, with focus masks, at the taps of hosts/attention/patching.py.

The maths is in engine/attention/kv_share.py and engine/attention/focus_map.py. Segments are evaluated in order within a
step, so a source's keys and values are there when its readers come; what no later segment needs is let go. Two ways:
`fast` evaluates every segment once, and its own keys and values, made while it read from its source, are what the next
one reads. `paper` evaluates a segment that is read from once by itself and once as a reader, and both predictions are
blended (DiTCtrl's public code).

Focus masks come from the layers before, in the same evaluation, as in that code. Where the positive prompt is not in
the batch (little memory, guiders that ask apart), the mask that it had at the same place stands in; where no layer has
been before, the segment's last map.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from comfy.context_windows import IndexListContextHandler

from ...engine.attention import kv_share
from ...engine.attention.focus_map import FocusMap
from ...engine.attention.kv_share import Focus, KeysValues
from ...engine.plan.needs import AS_MADE, CARD, AttentionSize, Keep, Need
from ...engine.plan.spans import NoiseSpan
from ...engine.plan.timeline import Timeline
from ..attention import patching
from ..attention.feature import Evaluation, Start
from ..attention.kv_cache import Entry, KVCache, Site
from ..families.sites import CROSS, SELF, Call
from ..prompts import conditioning
from ..types import Attention
from ..windows import latent_blend
from .focus import Mask, shows_positive, word_map, words_of_shots

NAME = "Longreel KV Share"
FAST, PAPER = "fast", "paper"
SOURCE, READER = "source", "reader"


@dataclass(frozen=True)
class KVShare:
    """These are the settings, in the words of engine/attention/kv_share.py.

    `layers` are blocks of the network, percents parts of the schedule; `keep` says where and how sources are kept.
    """

    mode: str
    source: str
    source_shot: int
    shots: tuple[int, ...]
    across_cuts: bool
    join: str
    placement: str
    strength: float
    share_text: bool
    layers: frozenset[int]
    start_percent: float
    end_percent: float
    mask: Mask | None
    keep: Keep = AS_MADE

    name = NAME
    excludes: ClassVar[dict[str, str]] = {}
    replaces_keys = True
    not_in_rollout = (
        "it works between segments that are sampled together; use mode joint, or Longreel Long Memory instead"
    )

    @property
    def blocks(self) -> frozenset[int]:
        """Return the blocks that share, and those before them where words are looked for; none at strength 0."""
        mapped = range(max(self.layers) + 1) if self.mask and self.layers else ()
        return self.layers.union(mapped) if self.strength else frozenset()

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Return in which percents of the schedule it works."""
        return ((self.start_percent, self.end_percent),)

    @property
    def needs_one_device(self) -> str | None:
        """Return why prompts cannot be evaluated on devices of their own; None where they can."""
        return "its masks are made of the positive prompt and read beside the negative one" if self.mask else None

    def start(self, start: Start) -> "KVShareRun":
        """Begin a run.

        Raises ValueError without a timeline, for a placement that the network's positions cannot make, and for words of
        the mask that the shots' prompts do not have.
        """
        timeline = timeline_of(start, NAME)
        if self.placement != kv_share.ALIGNED and start.family.time_shift(start.model.diffusion_model, (), {}) is None:
            raise ValueError(
                f"placement {self.placement} moves keys in time, and this network has no rotary "
                f"positions to move them by; use placement {kv_share.ALIGNED}"
            )
        span = NoiseSpan.of(self.start_percent, self.end_percent, start.model.model_sampling.percent_to_sigma)
        if self.strength:
            patching.say_steps(NAME, "shares", span, start)
        sources = kv_share.plan_sources(timeline, self.source, self.source_shot, self.shots, self.across_cuts)
        if self.mask:
            conditioning.check_words(start.conds, words_of_shots(timeline, self.mask))
        windows = [start.handler.window_start(number) for number in range(len(timeline.segments))]
        return KVShareRun(self, timeline, windows, sources, span, start.places.get(NAME, CARD))

    def need(self, size: AttentionSize) -> Need:
        """Return the bytes of one source's keys and values; where each segment reads from the one before, a layer's of
        that are let go when they were read, so there is one layer more.
        """
        sites = [kind for kind, block in size.sites if block in self.layers and (kind != CROSS or self.share_text)]
        tokens = [size.tokens_of(kind, every_frames=self.keep.every_frames) for kind in sites] if self.strength else []
        kept = sum(size.bytes_of(count, self.keep.form) for count in tokens)
        if self.source == kv_share.PREVIOUS:
            kept += max((size.bytes_of(count, self.keep.form) for count in tokens), default=0)
        return size.need(
            NAME,
            kept=kept,
            tokens=max(tokens, default=0),
            keep=self.keep,
            joined=self.join == kv_share.EXTEND or self.mask is not None,
            moved=self.placement != kv_share.ALIGNED,
        )


def timeline_of(start: Start, name: str) -> Timeline:
    """Return the timeline that the sampler works on.

    Raises ValueError where there is none, or windows inside its segments.
    """
    if isinstance(start.handler, IndexListContextHandler):
        latent_blend.check_place(start.handler)
    if not isinstance(start.handler, latent_blend.TimelineHandler):
        raise ValueError(
            f"{name} works between the segments of a timeline, and this sampler has no timeline; wire Longreel Latent "
            f"Blend behind it, or use Longreel Sampler"
        )
    if start.handler.inside is not None:
        raise ValueError(
            f"{name} needs a segment to be seen at once, and another context handler on this model cuts it up; remove "
            f"the context windows node"
        )
    return start.handler.timeline


@dataclass
class Kept:
    """What is known of a source at one site beside its keys and values: where the words are."""

    frames: int  # token frames of the source's window
    foreground: torch.Tensor | None = None  # [N, video tokens that are kept]


class KVShareRun:
    """This is one run of a sampler.

    What is kept of a segment lives until its last reader has come by, that of the last source until the next step.
    `windows` are the first latent frames that the network sees of each segment, `place` is where keys and values lie.
    """

    needs_every_evaluation = True

    def __init__(
        self,
        settings: KVShare,
        timeline: Timeline,
        windows: list[int],
        sources: list[int | None],
        span: NoiseSpan,
        place: str,
    ):
        self.settings, self.windows, self.sources, self.span = settings, windows, sources, span
        self.timeline, self.place = timeline, place
        self.last_reader = {source: reader for reader, source in enumerate(sources) if source is not None}
        self.cache = KVCache(NAME, settings.keep, place)  # labels are segments
        self.kept: dict[tuple[int, int, str], Kept] = {}  # by segment, block and kind
        self.read_out: list[tuple[int, Site, tuple[Entry, ...]]] = []  # by its last reader, whose site is under way
        self.words = words_of_shots(timeline, settings.mask) if settings.mask else None
        self.map = FocusMap()  # of the evaluation under way
        self.last_maps: dict[tuple[int, str], FocusMap] = {}  # by segment and role
        self.foregrounds: dict[tuple[int, str, int, str], torch.Tensor] = {}  # by segment, role, block and kind

    def roles(self, segment: int) -> tuple[str, ...]:
        """Return reader for a segment with a source, else source; in mode paper both, where it is also read from."""
        reads, is_read = self.sources[segment] is not None, segment in self.last_reader
        if self.settings.mode == PAPER and self.settings.strength and reads and is_read:
            return READER, SOURCE
        return (READER,) if reads else (SOURCE,)

    def evaluated_before(self, segment: int) -> frozenset[int]:
        """Return the segments whose evaluation leaves what this one reads: its source, that one's source, ..."""
        source = self.sources[segment] if self.settings.strength else None
        return frozenset() if source is None else self.evaluated_before(source) | {source}

    def for_device(self) -> "KVShareRun":
        """Return a run like this one that has seen nothing yet, for a device of its own."""
        return KVShareRun(self.settings, self.timeline, self.windows, self.sources, self.span, self.place)

    def begin(self, evaluation: Evaluation) -> None:
        """Let go what no later segment of this step reads, and begin what this evaluation keeps."""
        segment = evaluation.segment
        self._let_go_of_what_was_read()
        for label in self.cache.labels():
            if not label < segment <= self.last_reader[label]:  # nobody reads it, or it is of the step before
                self.cache.drop(label)
        self.map = FocusMap()

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Return whether this block keeps, reads or maps something in this evaluation."""
        settings = self.settings
        if not settings.strength or not self.span.holds(evaluation.sigma):
            return False
        if not self._keeps(evaluation) and evaluation.role != READER:
            return False
        return self._shares(kind, block) or self._maps(kind, block)

    def _keeps(self, evaluation: Evaluation) -> bool:
        return evaluation.segment in self.last_reader and (self.settings.mode == FAST or evaluation.role == SOURCE)

    def _shares(self, kind: str, block: int) -> bool:
        return block in self.settings.layers and (kind != CROSS or self.settings.share_text)

    def _maps(self, kind: str, block: int) -> bool:
        return self.settings.mask is not None and kind != SELF and block <= max(self.settings.layers)

    def attend(self, call: Call, next_attention: Attention) -> torch.Tensor:
        """Return [B, H, Sq, D], read from the source's keys and values where this evaluation is a reader."""
        evaluation = call.evaluation
        if self._maps(call.kind, call.block) and (found := word_map(call, next_attention, self.words)) is not None:
            self.map.add(found)
        if not self._shares(call.kind, call.block):
            return next_attention(call.q, call.k, call.v, call.mask)
        if call.kind == SELF and call.mask is not None:
            raise ValueError(
                f"{NAME} cannot share keys that a mask weighs differently for {call.mask.shape[2]} of "
                f"{call.q.shape[2]} queries; give every guide picture strength 1 and no mask of its own"
            )
        site = call.block, call.kind
        self._let_go_of_what_was_read(but=site)
        here = self._foreground(evaluation, call)
        if self._keeps(evaluation):
            self.cache.put(evaluation.segment, call)
            self.kept[evaluation.segment, call.block, call.kind] = Kept(
                call.forward.grid[0], self._kept_tokens(here, call)
            )
        if evaluation.role != READER:
            return next_attention(call.q, call.k, call.v, call.mask)
        source = self.sources[evaluation.segment]
        kept = self.kept[source, call.block, call.kind]
        known = call.kind != CROSS and here is not None and kept.foreground is not None
        focus = Focus(kept.foreground, here) if known else None
        settings = self.settings

        def attend(q: torch.Tensor, own: KeysValues, read: KeysValues) -> torch.Tensor:
            read = self._placed(read, kept, call)
            return kv_share.attend_shared(
                next_attention, q, own, read, settings.join, settings.strength, settings.share_text, focus
            )

        if evaluation.segment == self.last_reader[source]:
            self.read_out.append((source, site, call.prompts))
        return self.cache.read(source, call).attend(attend)

    def _let_go_of_what_was_read(self, but: Site | None = None) -> None:
        """Let go what its last reader has read at other sites; a feature outside may ask a site more than once."""
        for label, site, entries in [read for read in self.read_out if read[1] != but]:
            self.cache.drop(label, site, entries)
        self.read_out = [read for read in self.read_out if read[1] == but]

    def _kept_tokens(self, foreground: torch.Tensor | None, call: Call) -> torch.Tensor | None:
        """Return the foreground [N, tokens] of the frames that are kept."""
        if foreground is None or call.kind == CROSS or self.settings.keep.every_frames == 1:
            return foreground
        return foreground.unflatten(1, (call.forward.grid[0], -1))[:, :: self.settings.keep.every_frames].flatten(1)

    def _placed(self, source: KeysValues, kept: Kept, call: Call) -> KeysValues:
        """Return the source's keys where they belong in time."""
        if call.kind == CROSS or self.settings.placement == kv_share.ALIGNED:
            return source
        here, patch = call.evaluation.segment, call.forward.patch_frames
        apart = (
            kv_share.frames_apart(
                self.settings.placement, self.windows[self.sources[here]], kept.frames * patch, self.windows[here]
            )
            / patch
        )
        text, video = source.k[:, :, : source.text_tokens], source.k[:, :, source.text_tokens :]
        k = call.forward.time_shift(video, apart)
        return replace(source, k=torch.cat([text, k], dim=2) if source.text_tokens else k)

    def _foreground(self, evaluation: Evaluation, call: Call) -> torch.Tensor | None:
        """Return [N, tokens behind the text], or None while nothing is known of this segment.

        References and poses among the video's tokens are background.
        """
        if self.settings.mask is None:
            return None
        seen_as = (evaluation.segment, evaluation.role)
        place = (*seen_as, call.block, call.kind)
        if shows_positive(call):
            if self.map.layers:
                self.last_maps[seen_as] = self.map
            if seen_as in self.last_maps:
                found = self.last_maps[seen_as].foreground(call.forward.grid[0], self.settings.mask.threshold)
                behind = call.q.shape[2] - call.text_tokens - call.forward.leading - found.shape[1]
                self.foregrounds[place] = torch.nn.functional.pad(found, (call.forward.leading, behind))
        return self.foregrounds.get(place)
