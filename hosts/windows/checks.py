"""Check what every way of sampling a timeline asks of its latent before it begins."""

from ...engine.plan.timeline import Timeline


def check_latent_frames(latent_frames: int, timeline: Timeline) -> None:
    """Raise ValueError unless a latent has as many frames as its timeline."""
    if latent_frames != timeline.latent_frames:
        raise ValueError(
            f"the latent has {latent_frames} frames and the timeline {timeline.latent_frames}; wire the latent output "
            f"of the same Longreel Plan into the sampler"
        )
