"""From words of prompts to maps of the picture: engine/attention/focus_map.py on any family.

It works at the taps of hosts/attention/patching.py. Which words a shot's map follows is said by its `focus` in the
storyboard, else by the node. How words become text tokens is the conditioning's matter.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch

from ...engine.attention.focus_map import word_probability
from ...engine.plan.timeline import Timeline
from ...engine.to_device import sent
from .. import keys
from ..families.sites import Call
from ..prompts import conditioning
from ..types import Attention, Entry


@dataclass(frozen=True)
class Mask:
    """This is what a node asks of a focus mask.

    `words` apply to the shots that name none of their own; `threshold` 0..1 parts foreground from background.
    """

    words: tuple[str, ...]
    threshold: float


class WordsOfShots(list[tuple[str, ...]]):
    """For each shot the words that its map follows, and for a run of the sampler what they weigh in its prompts."""

    def __init__(self, words: Iterable[tuple[str, ...]]):
        super().__init__(words)
        self._weights: dict[Hashable, torch.Tensor] = {}

    def weights_for(self, call: Call, entry: Entry) -> torch.Tensor:
        """Return [keys] on the device of a call: the weights of the words of `entry` in the text that it reads."""
        start, tokens, k = call.forward.prompt_start, call.k.shape[2], call.k
        place = entry[keys.WORDS], start, tokens, k.dtype, k.device
        if place not in self._weights:
            found = conditioning.word_weights(entry, self)  # [tokens of the prompt]
            weight = torch.zeros(tokens)
            weight[start : start + len(found)] = found
            self._weights[place] = sent(weight, k)
        return self._weights[place]


def words_of_shots(timeline: Timeline, mask: Mask) -> WordsOfShots:
    """Return for each shot the words that its map follows."""
    return WordsOfShots(planned.shot.focus or mask.words for planned in timeline.shots)


def shows_positive(call: Call) -> bool:
    """Return whether the positive prompt is in this batch."""
    return conditioning.number_of(call.evaluation.conds, conditioning.POSITIVE) in call.rows


def word_map(call: Call, attend: Attention, words: WordsOfShots) -> torch.Tensor | None:
    """Return [N, video tokens]: how much the positive prompt's words are read here.

    The call is of a joint attention or of one on text. None where the positive prompt is not in this batch.
    """
    if not shows_positive(call):
        return None
    prompt = conditioning.number_of(call.evaluation.conds, conditioning.POSITIVE)
    videos = call.q.shape[0] // len(call.rows)
    place = call.rows.index(prompt)
    rows = slice(place * videos, (place + 1) * videos)
    mask = call.mask if call.mask is None or call.mask.shape[0] == 1 else call.mask[rows]
    weight = words.weights_for(call, call.evaluation.conds[prompt][0])
    return word_probability(attend, call.q[rows, :, call.video], call.k[rows], mask, weight)
