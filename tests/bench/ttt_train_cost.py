"""What would training TTT layers of a real network take? Memory and time by training/estimate.py, for four cards.

    python dev.py bench ttt_train_cost [--kind mlp] [--batch 8] [--steps_share 0.1] [--processes 1] [--no-kernels]
        [--json FILE]

A MODEL, NOT A MEASUREMENT: what it rests on is said in training/estimate.py. A dash is a stage whose videos do not fit
the card one at a time. The last lines are a whole recipe: the paper's steps times --steps_share, --batch videos a step,
over the stages that fit. --processes divide the weights, the batch and the hours; what they tell each other is not
counted. A run's own plan (python -m longreel.training.ttt config.toml --plan) measures.
"""

from longreel.training.estimate import CARDS, GIB, NETWORKS, cost, fitting, seconds_of_video
from longreel.training.stages import LAYERS, PAPER, QKVO, scaled
from tests.bench_support import measuring, parser, table

TRAINED = {LAYERS: "TTT layers alone", QKVO: "TTT layers and the attention's projections"}


def main() -> None:
    arguments = parser(__doc__, 1)
    arguments.add_argument("--kind", choices=sorted(PAPER), default="mlp", help="of layer")
    arguments.add_argument("--batch", type=int, default=8, help="videos of a step")
    arguments.add_argument("--steps_share", type=float, default=0.1, help="of the paper's steps")
    arguments.add_argument("--no-kernels", action="store_true", help="scan in plain torch, as without Triton")
    arguments.add_argument("--processes", type=int, default=1, help="each with a card of its own")
    chosen = arguments.parse_args()
    print("A model, not a measurement: see training/estimate.py.")
    with measuring(chosen) as figures:
        figures["rows"] = []
        for network in NETWORKS:
            for adapter, what in TRAINED.items():
                show(network, adapter, what, chosen, figures["rows"])


def show(network, adapter: str, what: str, chosen, figures: list) -> None:
    stages = scaled(PAPER[chosen.kind], chosen.steps_share, batch=chosen.batch, adapter=adapter)
    rows = []
    for stage in stages:
        found = cost(network, chosen.kind, adapter, stage.segments, chosen.processes)
        cells = []
        for card in CARDS:
            parts = seconds_of_video(network, chosen.kind, adapter, stage.segments, card, not chosen.no_kernels)
            fits = stage in fitting(network, chosen.kind, adapter, [stage], card, chosen.processes)
            cells.append(f"{sum(parts.values()):,.1f} s" if fits else "-")
            figures.append(
                {
                    "network": network.name,
                    "adapter": adapter,
                    "kind": chosen.kind,
                    "stage": stage.name,
                    "card": card.name,
                    "tokens": found.tokens,
                    "bytes": found.bytes,
                    "fits": fits,
                    **parts,
                }
            )
        rows.append([stage.name, f"{found.tokens:,}", f"{found.bytes / GIB:,.0f} GiB", *cells])
    own, attention = network.trained(chosen.kind, adapter)
    weights = cost(network, chosen.kind, adapter, 1, chosen.processes).weight_bytes / GIB
    print(
        f"\n{network.name} at {network.size}, TTT-{chosen.kind}, {what}: {(own + attention) / 1e6:,.0f} million "
        f"numbers trained, {weights:,.0f} GiB for "
        f"{'its part of' if chosen.processes > 1 else 'all'} weights and state"
    )
    print(table(["stage", "tokens", "memory", *(f"{card.name}, a video" for card in CARDS)], rows))
    for card in CARDS:
        fit = fitting(network, chosen.kind, adapter, stages, card, chosen.processes)
        seconds = sum(
            stage.steps
            * stage.batch
            * sum(seconds_of_video(network, chosen.kind, adapter, stage.segments, card, not chosen.no_kernels).values())
            for stage in fit
        )
        hours = seconds / 3600 / chosen.processes
        names = f"{fit[0].name} to {fit[-1].name}, {hours:,.0f} h" if fit else "nothing fits"
        print(f"  {card.name}, {chosen.steps_share:g} of the paper's steps, {chosen.batch} videos a step: {names}")


if __name__ == "__main__":
    main()
