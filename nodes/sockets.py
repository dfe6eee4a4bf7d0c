"""The pack's own socket types."""

from comfy_api.latest import io

StoryboardSocket = io.Custom("LONGREEL_STORYBOARD")
TimelineSocket = io.Custom("LONGREEL_TIMELINE")
ClusterSocket = io.Custom("LONGREEL_CLUSTER")
MemorySocket = io.Custom("LONGREEL_MEMORY")
TTTSocket = io.Custom("LONGREEL_TTT")
TTTDatasetSocket = io.Custom("LONGREEL_TTT_DATASET")
