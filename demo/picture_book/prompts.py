"""Sentences for the pages of the picture book, as a person would write them: "an orange cat chases a gray mouse across
a meadow".

What a sentence names is a choice: whatever it leaves out has to be taken from what is seen before, or is drawn evenly.
Without its kind a drawing is "a thing" and a flat shape "a shape". One thing of shape world gets that world's sentence
(demo/world.py). Sentences have at most the 20 words that the text encoder reads (demo/text_encoder.py): `fitting`
leaves out sizes, sides, headings and at last the place, in this order, until they do.
"""

import random

from .. import text_encoder, world
from .book import Page, Thing

ATTRIBUTES = ("coat", "kind", "movement", "place")
OPTIONAL = ("size", "sides", "heading")  # never asked for: said in some sentences
EVERYTHING = ATTRIBUTES + OPTIONAL
WHERE = {
    "meadow": "on a meadow",
    "sea": "in the sea",
    "night": "at night",
    "room": "in a room",
    "desert": "in a desert",
    "street": "on a street",
}
ACROSS = {
    place: "at night" if place == "night" else f"across {phrase.split(' ', 1)[1]}" for place, phrase in WHERE.items()
}
STILL = ("stays still", "rests")  # two ways to say one movement
LEFT_OUT = {"coat": 0.25, "kind": 0.25, "movement": 0.2, "place": 0.25}  # share of the looser sentences
COMPLETE, EMPTY = 0.4, 0.1  # share of the sentences that name everything, and nothing
SAID = {"size": 0.4, "sides": 0.5, "heading": 0.3}


def prompt(page: Page, said: tuple[str, ...] = ATTRIBUTES, still: str = STILL[0]) -> str:
    """The sentence for a page; `said` lists what it names, of EVERYTHING. still: the words for "stays still"."""
    where = _where(page, said)
    if page.verbs:
        return _related(page, said) + (f" {ACROSS.get(page.place, where)}" if where else "")
    things = page.things
    phrases = [_noun(t, said) + (f" on the {_side(t, page)}" if _sides(page, said) else "") for t in things]
    if "movement" not in said:
        return _joined(phrases) + (f" {where}" if where else "")
    moves = [_movement(t, said, still) for t in things]
    if len(set(moves)) == 1:
        sentence, last = f"{_joined(phrases)} {moves[0]}", moves[0]
    else:
        sentence = " and ".join(f"{phrase} {move}" for phrase, move in zip(phrases, moves, strict=True))
        last = moves[-1]
    if not where:
        return sentence
    if last == "crosses" and page.place in WHERE and page.place != "night":
        return f"{sentence} {WHERE[page.place].split(' ', 1)[1]}"
    return f"{sentence} {where}"


def fitting(page: Page, said: tuple[str, ...], still: str = STILL[0]) -> str:
    """The sentence, without the OPTIONAL words and the place where it would be longer than the encoder reads."""
    spare = (*OPTIONAL, "place")
    for dropped in range(len(spare) + 1):
        kept = tuple(name for name in said if name not in spare[:dropped])
        sentence = prompt(page, kept, still)
        if len(sentence.split()) <= text_encoder.TOKENS:
            break
    return sentence


def random_prompt(
    page: Page,
    rng: random.Random,
    *,
    left_out: dict[str, float] = LEFT_OUT,
    complete: float = COMPLETE,
    empty: float = EMPTY,
) -> str:
    """A sentence for training: some name everything, some nothing, the others leave out each attribute at random."""
    if rng.random() < empty:
        return ""
    whole = rng.random() < complete
    said = tuple(name for name in ATTRIBUTES if whole or rng.random() >= left_out[name])
    said += tuple(name for name in OPTIONAL if rng.random() < SAID[name])
    return fitting(page, said, rng.choice(STILL))


def random_cut_prompt(first: Page, second: Page, rng: random.Random, *, empty: float = EMPTY) -> str:
    """A sentence for a clip with a cut: what is seen, "then", and what "it", or another thing that is named, does."""
    if rng.random() < empty:
        return ""
    same = first.things[0].look == second.things[0].look
    sentence = ""
    for tries in range(100):  # sooner or later enough is left out
        looser = {name: min(0.9, share + tries / 50) for name, share in LEFT_OUT.items()}
        complete = COMPLETE if tries == 0 else 0.0
        sentence = random_prompt(first, rng, left_out=looser, complete=complete, empty=0)
        if same:
            where = "" if rng.random() < looser["place"] else _where(second, EVERYTHING)
            later = f"it {_movement(second.things[0], ATTRIBUTES, STILL[0])} {where}".rstrip()
        else:
            later = prompt(
                second, ("coat", "kind", "movement") + (() if rng.random() < looser["place"] else ("place",))
            )
        sentence = f"{sentence} then {later}"
        if len(sentence.split()) <= text_encoder.TOKENS:
            break
    return sentence


def _where(page: Page, said: tuple[str, ...]) -> str:
    if "place" not in said:
        return ""
    return WHERE.get(page.place, f"on a {page.place} background")


def _noun(thing: Thing, said: tuple[str, ...]) -> str:
    noun = thing.kind if "kind" in said else "shape" if thing.kind in world.SHAPES else "thing"
    words = [word for name, word in (("size", thing.size), ("coat", thing.coat)) if name in said] + [noun]
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def _movement(thing: Thing, said: tuple[str, ...], still: str) -> str:
    if thing.movement == "stays still":
        return still
    heading = thing.movement in ("crosses", "hops") and "heading" in said
    return thing.movement + (f" to the {'right' if thing.heading > 0 else 'left'}" if heading else "")


def _sides(page: Page, said: tuple[str, ...]) -> bool:
    """Whether two things stand side by side, and the sentence says so."""
    return "sides" in said and len(page.things) == 2 and len({t.x for t in page.things} & {24.0, 72.0, 16.0, 48.0}) == 2


def _side(thing: Thing, page: Page) -> str:
    return "left" if thing.x < page.side / 2 else "right"


def _joined(phrases: list[str]) -> str:
    return " and ".join(phrases)


def _related(page: Page, said: tuple[str, ...]) -> str:
    """Who chases or carries whom; a verb that is not said is "and"."""
    sentence = _noun(page.things[0], said)
    for i, (verb, thing) in enumerate(zip(page.verbs, page.things[1:], strict=True)):
        if "movement" not in said:
            sentence += f" and {_noun(thing, said)}"
        else:
            sentence += f"{' that' if i else ''} {verb} {_noun(thing, said)}"
    return sentence
