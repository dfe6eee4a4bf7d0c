"""Range checks for inputs that a node validates itself: core leaves the minimum and maximum of those alone."""

from ..engine.plan.facts import ModelFacts

# What every supported family asks for at least; the family itself is asked once the model is there.
ANY_FAMILY = ModelFacts(
    family="any family",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=13,
    native_fps=16.0,
)


def check_ranges(**inputs: tuple[int | None, int, int]) -> None:
    """Every input is (value, lowest, highest); None comes through a wire. Raises ValueError with name and remedy."""
    for name, (value, lowest, highest) in inputs.items():
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{name} is {value}; use {lowest} to {highest}")


def check_segments(unit: str, segment: int | None, overlap: int | None, shortest: int) -> None:
    """A segment (0: not given) of at least `shortest` frames, and longer than the overlap (-1: not given)."""
    if segment and segment < shortest:
        raise ValueError(f"segment_{unit} is {segment}, and a segment needs {shortest} or more; use 0 for the default")
    if segment and overlap is not None and overlap >= segment:
        raise ValueError(
            f"overlap_{unit} is {overlap}, which does not fit into segment_{unit} {segment}; "
            f"use up to {segment - 1}, or longer segments"
        )
