"""Plan in bytes where each feature keeps what it keeps, and whether the whole fits on a card.

A card holds weights, what one evaluation of the network needs (its window), the working copies of the latent, and of
each feature what engine/plan/needs.py says. Weights need not lie there whole: ComfyUI brings in layer by layer what
has no room, which costs time in every step. So features are laid beside all weights where they fit, on the card or in
main memory; and a run is impossible only where it does not fit beside the least weights that a layer needs.

Ints alone. What a device has and what a model needs is read elsewhere (hosts/attention/card.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from .needs import AUTO, CARD, MAIN_MEMORY, Need

GIB = 2**30
WORKING_COPIES = 5  # latent-sized float32 tensors at once: noise, x, x0 and the two sums of the blend
TO_THE_SMALLEST = 0.05  # GiB; less is said in MiB


@dataclass(frozen=True)
class Card:
    """A device has these bytes for a run.

    total: of the device. free: with all that ComfyUI can unload for the run, without what it leaves to other programs.
    main_memory: free beside the model's own weights that lie there. is_main_memory: the device computes in main memory
    (a CPU), so both are one.
    """

    name: str
    total: int
    free: int
    main_memory: int
    is_main_memory: bool = False


@dataclass(frozen=True)
class CoreNeeds:
    """The network needs these bytes of a card, whatever the features do.

    weights: all of them, with the models beside it (TTT layers, trained memories). least_weights: what must lie on the
    card at once where the rest is brought in layer by layer. window, least_window: ComfyUI's estimate of one evaluation
    of all prompts in a batch, and of the prompts one by one. latents: working copies of what is sampled. layers:
    what the layers of another kind keep of a whole timeline in one forward (TTT).
    """

    weights: int
    least_weights: int
    window: int
    least_window: int
    latents: int = 0
    layers: int = 0

    @property
    def whole(self) -> int:
        """Return the bytes with all weights and all prompts in a batch."""
        return self.weights + self.window + self.latents + self.layers

    @property
    def least(self) -> int:
        """Return the fewest bytes that a run can do with."""
        return self.least_weights + self.least_window + self.latents + self.layers


@dataclass(frozen=True)
class MemoryPlan:
    """This is where every feature keeps what it keeps. `places` are CARD or MAIN_MEMORY, by the features' names."""

    card: Card
    core: CoreNeeds
    needs: tuple[Need, ...]
    places: Mapping[str, str]

    @property
    def features_on_card(self) -> int:
        """Return the bytes that the features need on the card."""
        return sum(need.on_card(self.places[need.name]) for need in self.needs)

    @property
    def features_in_main_memory(self) -> int:
        """Return the bytes that the features need in main memory."""
        return sum(need.in_main_memory(self.places[need.name]) for need in self.needs)

    @property
    def beside_all_weights(self) -> bool:
        """Return whether the card holds the features beside all weights, which then come to it once."""
        return self.core.whole + self._on_device <= self.card.free

    @property
    def missing_on_card(self) -> int:
        """Return the bytes that the card is short of with the least weights, 0 where none."""
        return max(0, self.core.least + self._on_device - self.card.free)

    @property
    def missing_in_main_memory(self) -> int:
        """Return the bytes that main memory is short of, 0 where none."""
        if self.card.is_main_memory:
            return 0  # counted on the card
        return max(0, self._beside_the_card + self.features_in_main_memory - self.card.main_memory)

    @property
    def fits(self) -> bool:
        """Return whether the run is possible at all."""
        return not self.missing_on_card and not self.missing_in_main_memory

    @property
    def _on_device(self) -> int:
        return self.features_on_card + (self.features_in_main_memory if self.card.is_main_memory else 0)

    @property
    def _beside_the_card(self) -> int:
        """Return the weights that find no room on the card and so lie in main memory."""
        room = self.card.free - (self.core.least - self.core.least_weights) - self.features_on_card
        return max(0, self.core.weights - max(0, room))


def choose_places(card: Card, core: CoreNeeds, needs: Sequence[Need]) -> MemoryPlan:
    """Return the plan that keeps on the card all that has room beside all weights, and the rest in main memory.

    Where the user chose a place, it is that. Where the card has no room for all weights anyway, or main memory too
    little, what is kept leaves the card as far as main memory holds it. The plan may not fit: see `MemoryPlan.fits`.
    """
    choices = [(CARD, MAIN_MEMORY) if need.keep.place == AUTO else (need.keep.place,) for need in needs]
    if card.is_main_memory:  # there is nothing to be won
        choices = [places[:1] for places in choices]
    names = [need.name for need in needs]
    plans = [
        MemoryPlan(card, core, tuple(needs), dict(zip(names, places, strict=True))) for places in product(*choices)
    ]
    return min(plans, key=_preference)


def _preference(plan: MemoryPlan) -> tuple[int, ...]:
    """Return what is smaller for a better plan: one that fits, beside all weights, with little in main memory."""
    moved = (plan.features_in_main_memory, plan.features_on_card)
    if not plan.beside_all_weights:
        moved = moved[::-1]
    return (plan.missing_on_card + plan.missing_in_main_memory, not plan.beside_all_weights, *moved)


def summary(plan: MemoryPlan) -> str:
    """Return one line: weights, window and features, needed and free, and where each feature keeps."""
    core, card = plan.core, plan.card
    parts = [f"weights {amount(core.weights)}", f"window {amount(core.window)}"]
    if core.layers:
        parts.append(f"the whole timeline in one forward {amount(core.layers)}")
    parts += [
        f"{need.name} {amount(need.on_card(plan.places[need.name]))}"
        + (
            f" ({amount(need.kept)} kept in main memory)"
            if plan.places[need.name] == MAIN_MEMORY
            else f" ({amount(need.kept)} kept here)"
        )
        for need in plan.needs
        if need.kept or need.reading
    ]
    streamed = "" if plan.beside_all_weights else "; weights come to the card layer by layer"
    needed = core.whole + plan.features_on_card
    return (
        f"{card.name}: {', '.join(parts)}: needed {amount(needed)}, free {amount(card.free)}; main memory: needed "
        f"{amount(plan.features_in_main_memory)}, free {amount(card.main_memory)}{streamed}"
    )


def refusal(plan: MemoryPlan, remedies: Sequence[str]) -> str:
    """Return why the run cannot fit: the feature, needed and free bytes, and the settings that do fit."""
    core, card = plan.core, plan.card
    largest = max(plan.needs, key=lambda need: (need.kept, need.reading), default=None)
    use = "use a smaller size or shorter segments" if not remedies else f"use {_either(remedies)}"
    if plan.missing_on_card:
        needed = core.least + plan.features_on_card
        if card.is_main_memory:
            needed += plan.features_in_main_memory
        beside = f"{amount(core.least)} of the network and its window"
        what = (
            f"this run needs {amount(needed)}"
            if largest is None or not largest.kept
            else f"{largest.name} needs {amount(needed)} with {beside}"
        )
        return f"{what}, and {amount(card.free)} are free on {card.name}; {use}"
    name = "this run" if largest is None else largest.name
    needed = card.main_memory + plan.missing_in_main_memory
    return (
        f"{name} keeps {amount(plan.features_in_main_memory)} in main memory, where {amount(needed)} are needed with "
        f"the weights that the card has no room for, and {amount(card.main_memory)} are free; {use}"
    )


def amount(count: int) -> str:
    """Return bytes as people read them: GiB with one decimal, MiB where that would be none."""
    return f"{count / GIB:.1f} GiB" if count >= TO_THE_SMALLEST * GIB else f"{count / 2**20:.1f} MiB"


def _either(remedies: Sequence[str]) -> str:
    return remedies[0] if len(remedies) == 1 else f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
