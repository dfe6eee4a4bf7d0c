"""Say as a table what a run needs of a card and of main memory: weights, window, latent, and each feature in every way
that it can keep its keys and values.

Plain strings from a MemoryPlan; the needs of the ways are handed in by whoever knows the features.
"""

from collections.abc import Mapping, Sequence

from .card_memory import GIB, MemoryPlan, amount
from .needs import CARD, MAIN_MEMORY, Need

WAYS = ("card", "main memory", "card, 8-bit", "main memory, 8-bit")  # in which keys and values can be kept


def memory_table(
    plan: MemoryPlan, windows: Mapping[str, int], ways: Sequence[Mapping[str, Need]], refused: str | None
) -> list[str]:
    """Return the lines: what is needed and free, a row for each feature, and whether it all fits.

    windows: bytes of one evaluation, by what it shows ("both prompts"). ways: of each need of the plan, in its order,
    the needs by WAYS that it has. refused: why it cannot fit, with settings that do.
    """
    card, core = plan.card, plan.core
    where = f"{amount(card.free)} free on {card.name}"
    where += "" if card.is_main_memory else f", {amount(card.main_memory)} in main memory"
    lines = [
        f"memory while sampling, estimated: {amount(core.whole + plan.features_on_card)} on {card.name} with all "
        f"weights, {amount(core.least + plan.features_on_card)} at least, and {amount(plan.features_in_main_memory)} "
        f"in main memory; {where}",
        f"  weights {amount(core.weights)}, of which {amount(core.least_weights)} must lie on {card.name}",
        "  window (the same for any length of video) "
        + ", ".join(f"{amount(size)} with {shown}" for shown, size in windows.items()),
        f"  latent {amount(core.latents)}",
    ]
    keeping = [(need, each) for need, each in zip(plan.needs, ways, strict=True) if need.kept or need.reading]
    if keeping:
        lines += ["  features, GiB on the card + in main memory, by where and how keys and values are kept:"]
        lines += [f"    {line}" for line in _columns(plan, keeping)]
    fits = "fits beside all weights" if plan.beside_all_weights else "fits; weights come to the card layer by layer"
    return [*lines, f"  {fits}" if refused is None else f"  does not fit: {refused}"]


def _columns(plan: MemoryPlan, keeping: Sequence[tuple[Need, Mapping[str, Need]]]) -> list[str]:
    rows: list[tuple[str, ...]] = [("", *WAYS, "chosen")]
    for need, ways in keeping:
        cells = [
            _cell(ways[way], MAIN_MEMORY if way.startswith(MAIN_MEMORY) else CARD) if way in ways else "-"
            for way in WAYS
        ]
        rows.append((need.name, *cells, plan.places[need.name] if need.kept else "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cell(need: Need, place: str) -> str:
    on_card, in_main = need.on_card(place), need.in_main_memory(place)
    return f"{on_card / GIB:.2f}" + (f" + {in_main / GIB:.2f}" if in_main else "")
