"""Keep the record of a run folder: which files each shot used, for every video that was made under the run's name.

chunks.json: {"longreel_run": 1, "shots": [prompt, ...], "chunks": [{"shot": 0, "piece": 0, "file": ...}, ...],
"videos": [{"sampler": "12", "shots": [{"prompt": ..., "files": [...], ...}]}], "earlier": [...], "once_locked": [...]}.
The first three keys are what Longreel has written from the start, of the video that was made last; the others came
with locks that survive every edit. Each sampler node of a graph has a video of its own. Shots that left a video are
kept as earlier ones and are found again when they come back (engine/runs/shots.py). Whether the files are there and
whole is not known here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from .chunk_file import NAME, NewerVersion
from .shots import RunShot, recognise

VERSION = 1
MOST_EARLIER = 1000  # shots that left a video; their files stay all the same, and are found by what they depend on
UNKNOWN = ""  # the sampler of a record that an older Longreel wrote
NO_FILES: Mapping[int, str] = {}


@dataclass(frozen=True)
class Made:
    """This is what a shot was when its files were made; see RunShot."""

    seconds: float | None
    fps: float | None
    family: str | None
    pieces: int


@dataclass(frozen=True)
class ShotRecord:
    """This is a shot with the names of its files, by piece from 0.

    shot: as it was asked for last. files: of the last time that all pieces were there. made: what the shot was then;
    None where an older Longreel wrote the record. begun: the files of the time that goes on now, piece after piece.
    unsure: why the files could be those of another shot, for people; empty where they are its own.
    """

    shot: RunShot
    files: Mapping[int, str] = field(default_factory=dict)
    begun: Mapping[int, str] = field(default_factory=dict)
    made: Made | None = None
    unsure: str = ""

    @property
    def kept(self) -> Mapping[int, str]:
        """Return what a lock keeps."""
        return self.files or self.begun

    @property
    def is_complete(self) -> bool | None:
        """Return whether `kept` are all pieces of the shot; None where an older Longreel did not say."""
        return None if self.files and self.made is None else bool(self.files)

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*self.files.values(), *self.begun.values()))

    def using(self, piece: int, name: str) -> "ShotRecord":
        """Return the shot when its piece uses this file, piece after piece. What was begun behind it is begun anew."""
        if self.shot.locked:
            return replace(self, begun={**self.begun, piece: name}).whole(self.shot.pieces)
        own = replace(self, unsure="")  # a file that is used and not locked was made for what the shot is now
        if self.files.get(piece) == name and self.files == self.begun and self.made == self.made_now(self.shot.pieces):
            return own
        begun = {number: file for number, file in self.begun.items() if number < piece} | {piece: name}
        return replace(own, begun=begun).whole(self.shot.pieces)

    def made_now(self, pieces: int | None) -> Made | None:
        """Return what the shot is now, in so many pieces."""
        return None if pieces is None else Made(self.shot.seconds, self.shot.fps, self.shot.family, pieces)

    def whole(self, pieces: int | None) -> "ShotRecord":
        """Return the shot with what was begun as its files, once that is all of so many pieces."""
        if pieces is None or set(self.begun) != set(range(pieces)):
            return self
        if self.shot.locked and self.begun == self.files and self.made:
            return self
        return replace(self, files=self.begun, made=self.made_now(pieces))


@dataclass(frozen=True)
class Video:
    """A video is what one sampler node makes; sampler: the node's id in its graph."""

    sampler: str
    shots: tuple[ShotRecord, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """A record has the videos, the one that was made last at the end, the shots that left them, and the names of all
    files that a locked shot ever used.
    """

    videos: tuple[Video, ...] = ()
    earlier: tuple[ShotRecord, ...] = ()
    once_locked: frozenset[str] = frozenset()

    @property
    def video(self) -> Video:
        """Return the video that is made now, or was made last."""
        return self.videos[-1] if self.videos else Video(UNKNOWN)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all files that a video uses."""
        return frozenset(name for video in self.videos for shot in video.shots for name in shot.names)

    @property
    def has_files(self) -> bool:
        """Return whether any chunk of any video was ever finished."""
        return bool(self.names) or bool(self.earlier)

    def file_of(self, shot: int, piece: int) -> str | None:
        """Return the name of the file that a piece of a shot of the current video used last; both from 0."""
        shots = self.video.shots
        return shots[shot].kept.get(piece) if shot < len(shots) else None

    def for_shots(self, shots: Sequence[RunShot], sampler: str = UNKNOWN) -> "Renewed":
        """Return the record with these as the shots of `sampler`'s video.

        A shot that is recognised has the files of before. Shots that are gone become earlier ones, and so does what a
        shot was before its prompt was edited: it may come back. What other samplers made stays theirs.
        """
        own = self._own(sampler)
        others = [*self.earlier, *(shot for video in self.videos if video is not own for shot in video.shots)]
        found = recognise([one.shot for one in own.shots], shots, [one.shot for one in others])
        past = {number: own.shots[match] for number, match in found.matches.items()}
        past |= {number: others[match] for number, match in found.elsewhere.items()}
        past |= {number: replace(past[number], unsure=why) for number, why in found.unsure.items() if number in past}
        now = tuple(_renewed(past.get(number), shot) for number, shot in enumerate(shots))
        same = {match for number, match in found.matches.items() if _says_the_same(own.shots[match], shots[number])}
        left = [shot for number, shot in enumerate(own.shots) if number not in same and shot.names]
        locked = {name for shot in now if shot.shot.locked for name in shot.kept.values()}
        once_locked = self.once_locked | locked
        earlier = _without_doubles((*self.earlier, *left))
        videos = (*(video for video in self.videos if video is not own), Video(sampler, now))
        return Renewed(RunRecord(videos, _newest(earlier, once_locked), once_locked), past)

    def with_file(self, shot: int, piece: int, name: str, locked: bool = False) -> "RunRecord":
        """Return the record when a piece of a shot of the current video uses this file, locked or not."""
        shots = list(self.video.shots)
        shots[shot] = shots[shot].using(piece, name)
        is_locked = locked or shots[shot].shot.locked
        return replace(
            self._with_video(shots), once_locked=self.once_locked | {name} if is_locked else self.once_locked
        )

    def finished(self, pieces: Mapping[int, int]) -> "RunRecord":
        """Return the record of a complete video, whose shots have so many `pieces`, by shot from 0."""
        shots = []
        for number, one in enumerate(self.video.shots):
            count = pieces.get(number, 0)
            begun = {piece: name for piece, name in one.begun.items() if piece < count}
            shots.append(replace(one, begun=begun).whole(count))
        return self._with_video(shots)

    def with_earlier(self, names: Iterable[str]) -> "RunRecord":
        """Return the record without earlier shots none of whose files is among `names`."""
        there = set(names)
        return replace(self, earlier=tuple(shot for shot in self.earlier if shot.names & there))

    def to_json(self) -> str:
        """Write the record as JSON text."""
        chunks = [
            {"shot": number, "piece": piece, "file": name}
            for number, shot in enumerate(self.video.shots)
            for piece, name in sorted(shot.kept.items())
        ]
        return json.dumps(
            {
                "longreel_run": VERSION,
                "shots": [shot.shot.prompt for shot in self.video.shots],
                "chunks": chunks,
                "videos": [
                    {"sampler": video.sampler, "shots": [_plain(shot) for shot in video.shots]} for video in self.videos
                ],
                "earlier": [_plain(shot) for shot in self.earlier],
                "once_locked": sorted(self.once_locked),
            },
            ensure_ascii=False,
            indent=1,
        )

    def _own(self, sampler: str) -> Video:
        """Return the video of a sampler; one whose sampler is not known is the first's that asks."""
        for name in (sampler, UNKNOWN):
            for video in self.videos:
                if video.sampler == name:
                    return video
        return self.video if sampler == UNKNOWN and self.videos else Video(sampler)

    def _with_video(self, shots: Iterable[ShotRecord]) -> "RunRecord":
        return replace(self, videos=(*self.videos[:-1], replace(self.video, shots=tuple(shots))))


@dataclass(frozen=True)
class Renewed:
    """This is a record with the shots of a new storyboard.

    past: what was recognised as each shot, by number from 0.
    """

    record: RunRecord
    past: Mapping[int, ShotRecord]


def read_record(text: str) -> RunRecord:
    """Read a record. Raises NewerVersion where a newer Longreel wrote it, and ValueError where `text` is none, naming
    what is wrong.
    """
    try:
        record = json.loads(text)
        version = record["longreel_run"]
        if type(version) is int and version > VERSION:
            raise NewerVersion(f"it is of version {version}, and this Longreel reads {VERSION}")
        if version != VERSION:
            raise ValueError(f"it is of version {version!r}, and this Longreel reads {VERSION}")
        if "videos" not in record:
            return _before_videos(record)
        return RunRecord(
            tuple(Video(_text(video["sampler"]), _shots(video["shots"])) for video in record["videos"]),
            _shots(record["earlier"]),
            frozenset(_file_name(name) for name in record["once_locked"]),
        )
    except RecursionError as error:
        raise ValueError(f"{len(text)} characters are no record of a run: they are nested too deeply") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{len(text)} characters are no record of a run ({type(error).__name__}: {error})") from error


def _before_videos(record: Mapping) -> RunRecord:
    """Read what Longreel wrote before it knew more of a shot than its prompt."""
    files: dict[int, dict[int, str]] = {}
    for chunk in record["chunks"]:
        shot, piece = _number(chunk["shot"]), _number(chunk["piece"])
        files.setdefault(shot, {})[piece] = _file_name(chunk["file"])
    shots = [
        ShotRecord(RunShot(prompt=_text(prompt)), files.get(number, NO_FILES), files.get(number, NO_FILES))
        for number, prompt in enumerate(record["shots"])
    ]
    return RunRecord((Video(UNKNOWN, tuple(shots)),))


def _renewed(past: ShotRecord | None, shot: RunShot) -> ShotRecord:
    """Return a shot as it is asked for now, with the files that it had."""
    if past is None:
        return ShotRecord(shot)
    if shot.locked:
        return replace(past, shot=shot, begun=past.kept)
    begun = past.begun if shot.pieces is None else {p: name for p, name in past.begun.items() if p < shot.pieces}
    return replace(past, shot=shot, begun=begun)


def _says_the_same(record: ShotRecord, shot: RunShot) -> bool:
    """Return whether a shot has the prompt, without the style where that is known, and the id that it had."""
    was = record.shot
    return (was.prompt if was.own_prompt is None else was.own_prompt, was.id) == (
        shot.prompt if was.own_prompt is None else shot.own_prompt,
        shot.id,
    )


def _without_doubles(shots: Sequence[ShotRecord]) -> tuple[ShotRecord, ...]:
    """Return the shots without those of which a later one has the same files."""
    last = {(shot.names, shot.shot.prompt, shot.shot.id): shot for shot in shots}
    return tuple(last.values())


def _newest(shots: Sequence[ShotRecord], once_locked: frozenset[str]) -> tuple[ShotRecord, ...]:
    """Return the shots without the oldest of more than MOST_EARLIER; those that were ever locked stay."""
    last = len(shots) - MOST_EARLIER
    return tuple(shot for number, shot in enumerate(shots) if number >= last or shot.names & once_locked)


def _plain(record: ShotRecord) -> dict[str, object]:
    """Return a shot for JSON, without what is not known."""
    known = {key: value for key, value in asdict(record.shot).items() if value not in (None, False) or key == "seed"}
    lists = {
        key: [[piece, name] for piece, name in sorted(files.items())]
        for key, files in (("files", record.files), ("begun", record.begun))
    }
    rest = {"made": None if record.made is None else asdict(record.made), "unsure": record.unsure or None}
    return {key: value for key, value in {**known, **lists, **rest}.items() if value not in (None, [])}


def _files(entries: Iterable[Sequence]) -> dict[int, str]:
    return {_number(piece): _file_name(name) for piece, name in entries}


def _shots(entries: Iterable[Mapping]) -> tuple[ShotRecord, ...]:
    known = {one.name for one in fields(RunShot)}
    return tuple(
        ShotRecord(
            RunShot(**{**{key: entry[key] for key in known & entry.keys()}, "prompt": _text(entry["prompt"])}),
            _files(entry.get("files", ())),
            _files(entry.get("begun", ())),
            Made(**entry["made"]) if "made" in entry else None,
            _text(entry.get("unsure", "")),
        )
        for entry in entries
    )


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("shots and pieces are not all whole numbers")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("prompts and file names are not all text")
    return value


def _file_name(value: object) -> str:
    name = _text(value)
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a chunk's file")
    return name
