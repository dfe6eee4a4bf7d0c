"""Longreel Compare: two runs of one storyboard side by side, blind if wanted, and what all votes imply."""

import random
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl, io, ui

from ..engine.compare.ratings_text import ratings_text
from ..engine.compare.votes import AXES, MOST_LETTERS, ratings_of, read_votes
from ..hosts.web.compare_vote import comparison_folder
from .sockets import StoryboardSocket
from .validation import verdict

SHOWN = "longreel_compare"  # of the node's ui output, which web/js shows
FOLDERS = {
    "output": folder_paths.get_output_directory,
    "input": folder_paths.get_input_directory,
    "temp": folder_paths.get_temp_directory,
}


class LongreelCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelCompare",
            display_name="Longreel Compare",
            category="Longreel/sampling",
            description="Plays two runs of one storyboard side by side, blind if wanted, and asks which is better in "
            "text following, motion, aesthetics and consistency. Votes are kept, and rated as Elo with intervals.",
            search_aliases=["side by side", "blind test", "a/b test", "vote", "elo", "human evaluation", "arena"],
            inputs=[
                io.Video.Input("video_a", tooltip="One run, from Longreel Decode to Video or Load Video."),
                io.Video.Input("video_b", tooltip="The other run, of the same storyboard."),
                io.String.Input(
                    "name_a", default="a", tooltip="What the first run is, up to 200 letters: the setting or the model."
                ),
                io.String.Input("name_b", default="b", tooltip="What the second run is, up to 200 letters."),
                io.String.Input(
                    "comparison",
                    default="compare",
                    tooltip="Folder in output/longreel where the votes are kept as votes.json. The same name goes on "
                    "with them, whatever runs are compared.",
                ),
                io.Boolean.Input(
                    "blind",
                    default=True,
                    tooltip="Draws which run stands on the left, and hides the names until you have voted.",
                ),
                StoryboardSocket.Input(
                    "storyboard",
                    optional=True,
                    tooltip="What both runs show: intervals are drawn over storyboards, because votes on one of them "
                    "are not independent. Without it all votes count as on one.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The ratings that the votes so far imply.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, comparison: str | None = None) -> bool | str:
        return True if comparison is None else verdict(lambda: comparison_folder(comparison))

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> float:
        return float("nan")  # unlike itself: votes come between two runs of the graph

    @classmethod
    def execute(cls, video_a, video_b, name_a, name_b, comparison, blind, storyboard=None) -> io.NodeOutput:
        for name, value in (("name_a", name_a), ("name_b", name_b)):
            if not 0 < len(value.strip()) <= MOST_LETTERS:
                raise ValueError(f"{name} has {len(value.strip()) or 'no'} letters; use 1 to {MOST_LETTERS}")
        if name_a.strip() == name_b.strip():
            raise ValueError(f"name_a and name_b are both {name_a.strip()!r}; use two names")
        folder = comparison_folder(comparison)
        folder.mkdir(parents=True, exist_ok=True)
        watched = "" if storyboard is None else _title(storyboard)
        sides = [{"name": name_a.strip(), **_place(video_a)}, {"name": name_b.strip(), **_place(video_b)}]
        if blind and random.SystemRandom().random() < 0.5:
            sides.reverse()
        report = ratings_text(ratings_of(read_votes(folder)))
        page = {"comparison": comparison, "blind": blind, "watched": watched, "axes": list(AXES), "sides": sides}
        return io.NodeOutput(report, ui={**ui.PreviewText(report).as_dict(), SHOWN: [page]})


def _title(storyboard) -> str:
    """-> what tells this storyboard from others: its title, else its prompts."""
    return (storyboard.title or " / ".join(shot.prompt for shot in storyboard.shots))[:MOST_LETTERS]


def _place(video) -> dict[str, str]:
    """-> where the page finds a video: the file itself below one of ComfyUI's folders, else a copy among its temporary
    files."""
    if isinstance(video, InputImpl.VideoFromFile) and isinstance(source := video.get_stream_source(), str):
        path = Path(source).resolve()
        for kind, folder in FOLDERS.items():
            root = Path(folder()).resolve()
            if path.is_relative_to(root) and video.get_active_trim_window() == (0.0, 0.0):
                below = path.relative_to(root).parent
                return {"filename": path.name, "subfolder": "" if below == Path() else below.as_posix(), "type": kind}
    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    name = f"longreel_compare_{random.SystemRandom().randrange(16**8):08x}.mp4"
    video.save_to(str(temporary / name))
    return {"filename": name, "subfolder": "", "type": "temp"}
