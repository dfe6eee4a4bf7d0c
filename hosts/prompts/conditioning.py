"""Encode prompts that know their shot and their words. Each conditioning entry of Longreel Encode carries three keys,
which travel through core's nodes and processing; from them a segment picks, and between shots mixes, what it listens
to, and features find the text tokens of the words that users name.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

import node_helpers
from comfy.hooks import set_hooks_for_conditioning

from ...engine.attention.prompt_mix import mix_texts
from ...engine.attention.words import Word, find
from ...engine.plan.timeline import Timeline
from .. import keys
from ..types import CLIP
from .shot_audio import AudioEncoder, Heard, hear
from .shot_lora import HOOKS, hooks_of_shots, mixed_hooks
from .time_axis import AUDIO
from .words import words_of_tokens

POSITIVE, NEGATIVE = "positive", "negative"
FRAME_RATE = "frame_rate"  # core's name of it in a CONDITIONING
NOT_MIXED = ("c_concat",)  # pictures and masks: two shots of one window see the same frames


class Spoken(NamedTuple):
    """These are the words of one shot's prompt, and the prompt's share (0..1) in an entry; an entry carries a tuple of
    these. `unknown` says why the words are not known, and is raised once somebody asks for them.
    """

    share: float
    shot: int  # from 0
    words: tuple[Word, ...]
    unknown: str = ""

    def positions(self, wanted: Iterable[str]) -> list[int]:
        """Return rising positions in the text of all tokens of the wanted words. Raises ValueError for a word that is
        not there.
        """
        if self.unknown:
            raise ValueError(self.unknown)
        return sorted({token for word in wanted for token in find(self.words, word)})


def encode_timeline(
    clip: CLIP | None, timeline: Timeline, audio_encoder: AudioEncoder | None = None
) -> tuple[list, list]:
    """Return one positive and one negative CONDITIONING entry per shot; equal texts are encoded once.

    Networks that place frames in seconds are told the timeline's frame rate, as core's LTXVConditioning does; that node
    behind this one has the last word. A shot's LoRAs hang on both of its prompts, and on
    every prompt the sound of all shots, which audio_encoder (of core's loader) hears.

    Raises ValueError for the None that core's checkpoint loader gives where there is no text encoder, and, naming the
    shot, for a LoRA or a sound that is not there or damaged.
    """
    if clip is None:
        raise ValueError("no text encoder came with this checkpoint; load one with Load CLIP")
    encoded: dict[str, tuple[list, Spoken]] = {}
    unsaid = timeline.facts.unsaid_frame_rate
    # The rate that is meant anyway stays unsaid: runs on disk know a chunk by what its conditioning says.
    rate = {} if unsaid in (None, timeline.fps) else {FRAME_RATE: timeline.fps}

    def entries(text: str, shot: int, role: str) -> list:
        if text not in encoded:
            tokens = clip.tokenize(text)
            encoded[text] = clip.encode_from_tokens_scheduled(tokens), _spoken(clip, text, tokens)
        conditioning, spoken = encoded[text]
        conditioning = set_hooks_for_conditioning(conditioning, hooks[shot])
        return node_helpers.conditioning_set_values(
            conditioning,
            {keys.SHOT: shot, keys.ROLE: role, keys.WORDS: (spoken._replace(shot=shot),), **rate}
            | sounds.get(role, {}),
        )

    hooks, heard = hooks_of_shots(timeline), hear(audio_encoder, timeline)
    sounds = {} if heard is None else sound_of_roles(heard)
    positive, negative = [], []
    for planned in timeline.shots:
        positive += entries(timeline.storyboard.prompt_of(planned.shot), planned.index, POSITIVE)
        negative += entries(timeline.storyboard.negative_of(planned.shot), planned.index, NEGATIVE)
    return positive, negative


def sound_of_roles(heard: Heard) -> dict[str, dict]:
    """Return what entries of each role hear; those of the negative prompt hear nothing, as core's nodes have it."""
    told = {keys.SOUND: (heard.encoder, heard.shot, heard.file)}
    embeds = {POSITIVE: heard.embed, NEGATIVE: torch.zeros_like(heard.embed)}
    return {role: {AUDIO: embed, **told} for role, embed in embeds.items()}


def _spoken(clip: CLIP, text: str, tokens: dict) -> Spoken:
    try:
        return Spoken(1.0, 0, words_of_tokens(clip, text, tokens))
    except ValueError as error:  # most users never ask for words, and encode with any encoder
        return Spoken(1.0, 0, (), str(error))


def role_of(conds: list[dict] | None) -> str | None:
    """Return the role that the entries of one cond list carry, or None when they did not come from Longreel
    Encode.
    """
    return next((cond[keys.ROLE] for cond in conds or () if keys.ROLE in cond), None)


def entries_for(conds: list[dict], mix: tuple[tuple[int, float], ...]) -> list[dict]:
    """Return the entries that a segment follows: those without a shot as they are, those of the mix's shots
    interpolated.
    """
    common = [cond for cond in conds if keys.SHOT not in cond]
    parts = [([cond for cond in conds if cond.get(keys.SHOT) == shot], share) for shot, share in mix]
    missing = [shot for (entries, _), (shot, _) in zip(parts, mix, strict=True) if not entries]
    if len(missing) == len(parts) and common:
        return common
    if missing:
        raise ValueError(
            f"no prompt for shot {missing[0] + 1} in a conditioning of {len(conds)} entries; wire the "
            f"output of Longreel Encode made from the same timeline"
        )
    counts = {len(entries) for entries, _ in parts}
    if len(counts) > 1:
        found = " and ".join(str(count) for count in sorted(counts))
        raise ValueError(
            f"neighbouring shots have {found} conditioning entries and cannot be mixed; give each "
            f"shot equally many, or use 0 transition prompts"
        )
    mixed = [_mix_entry([(entries[i], share) for entries, share in parts]) for i in range(counts.pop())]
    return common + mixed


def _mix_entry(parts: list[tuple[dict, float]]) -> dict:
    first = parts[0][0]
    if len(parts) == 1:
        return first
    model_conds = dict(first["model_conds"])
    for key, value in model_conds.items():
        if key in NOT_MIXED:
            continue
        tensors = [(entry["model_conds"][key].cond, share) for entry, share in parts if key in entry["model_conds"]]
        if key == AUDIO and all(tensor is tensors[0][0] for tensor, _ in tensors):
            continue  # the sound of all shots
        if len(tensors) == len(parts) and all(isinstance(t, torch.Tensor) for t, _ in tensors):
            model_conds[key] = value._copy_with(mix_texts(tensors))
    spoken = tuple(one._replace(share=one.share * share) for entry, share in parts for one in entry.get(keys.WORDS, ()))
    hooks = mixed_hooks(parts)
    mixed = {**first, "model_conds": model_conds, **({keys.WORDS: spoken} if spoken else {})}
    return mixed if hooks is first.get(HOOKS) else {**mixed, HOOKS: hooks}


def number_of(conds: list[list[dict] | None], role: str) -> int | None:
    """Return core's number of the prompt whose entries carry this role, or None."""
    return next((number for number, entries in enumerate(conds) if role_of(entries) == role), None)


def check_words(conds: dict[str, list[dict]], words_of_shots: Sequence[Sequence[str]]) -> None:
    """Raise ValueError, naming the shot, unless every shot has words and its positive prompt has them all.

    conds: a guider's entries by name, before core processes them. words_of_shots: for each shot the words to look for.
    """
    positive = next((entries for entries in conds.values() if role_of(entries) == POSITIVE), [])
    strangers = sum(keys.WORDS not in entry for entry in positive)
    if strangers or not positive:
        raise ValueError(
            f"{strangers or 'all'} of {len(positive) or 'the'} positive conditioning entries do not come "
            f"from Longreel Encode, and their words are not known; wire its output, or look for no words"
        )
    for shot, wanted in enumerate(words_of_shots):
        prompts = {entry[keys.WORDS] for entry in positive if entry[keys.SHOT] == shot}
        if len(prompts) != 1:
            found = (
                f"{len(prompts)} positive prompts, and words are looked for in a single one"
                if prompts
                else "no positive prompt to look for words in"
            )
            raise ValueError(f"shot {shot + 1} has {found}; wire one Longreel Encode made from the same timeline")
        if not wanted:
            raise ValueError(
                f"shot {shot + 1} has no words to look for; name words of its prompt in the "
                f"node, or as its focus in the storyboard"
            )
        try:
            for spoken in prompts.pop():
                spoken.positions(wanted)
        except ValueError as error:
            raise ValueError(f"shot {shot + 1}: {error}") from error


def word_weights(entry: dict, words_of_shots: Sequence[Sequence[str]]) -> torch.Tensor:
    """Return [tokens] up to the last one that counts: at the tokens of each shot's words the share of that shot's
    prompt in `entry`, 0 elsewhere. Raises ValueError for a word that its prompt does not have.
    """
    places = [(spoken.share, spoken.positions(words_of_shots[spoken.shot])) for spoken in entry[keys.WORDS]]
    weights = torch.zeros(1 + max(max(positions) for _, positions in places))
    for share, positions in places:
        weights[positions] += share
    return weights
