"""Histories of a storyboard that is edited at random, queue after queue, under one run name: are its locks kept?

Everything is real but the network: Longreel's rollout with its plan, its hashes and its run folder. In place of the
network stands a sampler whose frames are noise that its inputs decide, so that each input is seen in the numbers. What
must hold is followed here with an identity of each shot that the pack does not know.

    Histories(loaded, folder).play(random.Random(3)) -> what went wrong, one line each; none where all is well
"""

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

import comfy.samplers

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.content_hash import content_hash
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of, keys
from longreel.hosts.prompts.conditioning import encode_timeline
from longreel.hosts.sampling import rollout
from longreel.hosts.sampling.settings import Sampling

QUEUES = (2, 7)
OBJECTS = ("a red circle", "a blue square", "a green star")
MOVES = ("moves right", "moves up", "bounces", "stays still")
STYLES = ("", "film grain", "a drawing, wide shot")
SECONDS = (0.8, 1.1, 1.3, 2.0, 2.7)
TRANSITIONS = ("continue", "cut", "blend")
EDITS = (
    "insert",
    "delete",
    "move",
    "split",
    "retime",
    "restyle",
    "reword",
    "lock",
    "unlock",
    "transition",
    "undo",
    "cfg",
)
CUT_SHORT, OTHER_BOARD, REMOVE_OLD, SEGMENTS = 0.25, 0.1, 0.5, 0.1  # chances


@dataclass(frozen=True)
class Board:
    """A storyboard with an identity for each shot that no file has."""

    shots: tuple[tuple[int, Shot], ...]
    style: str = ""
    cfg: float = 3.0
    segment: int = 5

    def with_shots(self, shots) -> "Board":
        return replace(self, shots=tuple(shots))


@dataclass
class Known:
    """What a person knows of the run: by shot, the frames that were shown last and the seconds they were made with."""

    frames: dict[int, torch.Tensor] = field(default_factory=dict)
    of_prompt: dict[tuple[int, str], list[torch.Tensor]] = field(default_factory=dict)  # that a shot ever showed for it
    seconds: dict[int, float] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)  # shots that were ever part of an accepted queue
    locked_files: set[str] = field(default_factory=set)


class CutShort(Exception):
    """The process ends here."""


class Histories:
    """loaded: a tiny model. folder: where runs lie; each history has its own, which is removed if all was well."""

    def __init__(self, loaded, folder: Path):
        self.model, self.folder = loaded.model, folder
        self.facts = facts_of(loaded.model)
        self.sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", 1)
        self.sampler = comfy.samplers.sampler_object("euler")
        board = Storyboard((Shot("a text", 1.0),), width=64, height=64, fps=16.0)
        positive, _ = encode_timeline(loaded.clip, plan_timeline(board, self.facts))
        self.text_shape = positive[0][0].shape  # [1, tokens, channels]
        self.counts: Counter[str] = Counter()

    def play(self, rng: random.Random) -> list[str]:
        """Play one history, and return what went wrong."""
        path, with_ids = self.folder / f"{rng.random()}", rng.random() < 0.5
        self.next_shot, self.wrong, known = 0, [], Known()
        self.seen: dict[str, str] = {}  # hash of a chunk's numbers: its file
        board, past = Board(tuple(self._new(rng, with_ids) for _ in range(rng.randint(1, 4)))), []
        for number in range(rng.randint(*QUEUES)):
            past.append(board)
            if number:
                for _ in range(rng.choice((1, 1, 2, 3))):
                    board = self._edited(board, past, rng, with_ids, known)
            if rng.random() < OTHER_BOARD:
                other = Board(tuple(self._new(rng, with_ids) for _ in range(2)))
                self._queue(path, other, known, with_ids, cut_short=rng.choice((0, 1)), remove_old=False)
            self._queue(
                path,
                board,
                known,
                with_ids,
                cut_short=rng.randint(0, 3) if rng.random() < CUT_SHORT else None,
                remove_old=rng.random() < REMOVE_OLD,
            )
            if self.wrong:
                return [f"queue {number + 1}, {'with' if with_ids else 'without'} ids: {line}" for line in self.wrong]
        shutil.rmtree(path, ignore_errors=True)
        self.counts["histories"] += 1
        return []

    def _new(self, rng: random.Random, with_ids: bool) -> tuple[int, Shot]:
        self.next_shot += 1
        shot = Shot(
            words(rng),
            rng.choice(SECONDS),
            rng.choice(TRANSITIONS),
            seed=rng.choice((None, None, 1, 2)),
            id=f"shot {self.next_shot}" if with_ids else None,
        )
        return self.next_shot, shot

    def _edited(self, board: Board, past: list[Board], rng: random.Random, with_ids: bool, known: Known) -> Board:
        shots, edit = list(board.shots), rng.choice(EDITS)
        at = rng.randrange(len(shots))
        own, shot = shots[at]
        if edit == "insert":
            shots.insert(rng.randint(0, len(shots)), self._new(rng, with_ids))
        elif edit == "delete" and len(shots) > 1:
            del shots[at]
        elif edit == "move":
            shots.insert(rng.randrange(len(shots)), shots.pop(at))
        elif edit == "split" and not shot.locked and shot.seconds > 1:
            self.next_shot += 1
            half = replace(shot, seconds=shot.seconds / 2)
            second = replace(half, id=f"shot {self.next_shot}" if with_ids else None, transition="continue")
            shots[at : at + 1] = [(own, half), (self.next_shot, second)]
        elif edit == "copy":
            self.next_shot += 1
            copied = replace(shot, id=f"shot {self.next_shot}" if with_ids else None, locked=False)
            shots.insert(rng.randint(0, len(shots)), (self.next_shot, copied))
        elif edit == "retime":
            shots[at] = (own, replace(shot, seconds=rng.choice(SECONDS)))
        elif edit == "reword":
            shots[at] = (own, replace(shot, prompt=words(rng)))
        elif edit == "lock" and own in known.frames:
            shots[at] = (own, replace(shot, locked=True, seconds=known.seconds[own]))
        elif edit == "unlock":
            shots[at] = (own, replace(shot, locked=False))
        elif edit == "transition":
            shots[at] = (own, replace(shot, transition=rng.choice(TRANSITIONS)))
        elif edit == "restyle":
            return replace(board, style=rng.choice(STYLES))
        elif edit == "undo":
            return rng.choice(past)
        elif edit == "cfg":
            return replace(board, cfg=rng.choice((2.0, 3.0)), segment=rng.choice((5, 5, 5, 6)))
        return board.with_shots(shots)

    def _queue(
        self, path: Path, board: Board, known: Known, with_ids: bool, *, cut_short: int | None, remove_old: bool
    ) -> None:
        """Queue a storyboard, and compare what happens with what is known."""
        storyboard = Storyboard(
            tuple(shot for _, shot in board.shots), width=64, height=64, fps=16.0, style=board.style
        )
        timeline = plan_timeline(storyboard, self.facts, segment_frames=board.segment, overlap_frames=2)
        before = contents(path)
        locked = {own: known.frames[own] for own, shot in board.shots if shot.locked and own in known.frames}
        try:
            with open_run(path) as run:
                self.path, self.left = path, cut_short
                latent = self._sample(timeline, board, run)
                run.finish(remove_old)
        except CutShort:
            self.counts["queues cut short"] += 1
            known.asked |= {own for own, _ in board.shots}
            plan = json.loads((path / "plan.json").read_text())["chunks"]
            for number, (own, shot) in enumerate(board.shots):  # a shot that was finished by then is what a lock keeps
                last = max(chunk["number"] for chunk in plan if chunk["shot"] == number)
                if not shot.locked and last < self.cut_at:
                    known.frames.pop(own, None)
        except ValueError as error:
            self._refused(str(error), board, known, with_ids, before, contents(path))
            return
        else:
            self.counts["queues to the end"] += 1
            known.asked |= {own for own, _ in board.shots}
            self._compare(path, board, known, latent, locked)
            if remove_old:  # as it was asked: what is no part of the video and was never locked may be gone
                for own in known.frames.keys() - {own for own, _ in board.shots}:
                    del known.frames[own]
                    known.asked.discard(own)
        for name in contents(path).keys() - before.keys():
            if name.startswith("chunk_"):
                self.seen[content_hash(load_file(path / name)["samples"])] = name
        for name in known.locked_files:
            if not (path / name).exists():
                self.wrong.append(f"{name}, which a locked shot used, is gone")

    def _sample(self, timeline, board: Board, run) -> dict:
        board_of = timeline.storyboard
        conds = [
            [[text, {keys.SHOT: number, keys.ROLE: role}] for number, text in enumerate(texts)]
            for role, texts in (
                ("positive", [self._text(board_of.prompt_of(shot)) for _, shot in board.shots]),
                ("negative", [self._text("blurry")] * len(board.shots)),
            )
        ]
        empty = torch.zeros(1, self.facts.latent_channels, timeline.latent_frames, 2, 2)
        sampling = Sampling(
            positive=conds[0], negative=conds[1], sampler=self.sampler, sigmas=self.sigmas, cfg=board.cfg, seed=7
        )
        real, rollout._sample = rollout._sample, self._fake
        try:
            with torch.inference_mode():
                return rollout.sample_rollout(self.model, timeline, {"samples": empty}, sampling, run=run)[0]
        finally:
            rollout._sample = real

    def _text(self, prompt: str) -> torch.Tensor:
        """Stand in for a text encoder."""
        return torch.rand(self.text_shape, generator=torch.Generator().manual_seed(int(content_hash(prompt)[:15], 16)))

    def _fake(self, task, chunk, finished, remembered, progress, *, first) -> torch.Tensor:
        """Stand in for the network: noise that all its inputs decide."""
        if self.left is not None:
            if not self.left:
                self.cut_at = chunk.number
                raise CutShort
            self.left -= 1
        known = finished[:, :, chunk.start_frame : chunk.first_new_frame]
        prompts = [[text for text, _ in side] for side in task.prompts_of(chunk, frozenset(s for s, _ in chunk.mix))]
        given = content_hash(
            [known, prompts, [share for _, share in chunk.mix], task.seed_of(chunk), task.sampling.cfg]
        )
        noise = torch.Generator().manual_seed(int(given[:15], 16))
        new = torch.randn((*finished.shape[:2], chunk.new_frames, *finished.shape[3:]), generator=noise)
        if (file := self.seen.get(content_hash(new))) and (self.path / file).exists():
            self.wrong.append(f"chunk {chunk.number + 1} was made again, and {file} has its numbers")
        self.counts["chunks made"] += 1
        return new

    def _refused(self, why: str, board: Board, known: Known, with_ids: bool, before: dict, after: dict) -> None:
        """A queue may be refused where a lock cannot be kept, and then nothing has changed."""
        self.counts["queues refused"] += 1
        if before != after:
            changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
            self.wrong.append(f"refused, and {sorted(changed)} changed: {why}")
        retimed = [
            own for own, shot in board.shots if shot.locked and known.seconds.get(own, shot.seconds) != shot.seconds
        ]
        strangers = [own for own, shot in board.shots if shot.locked and own not in known.asked]
        if not any(shot.locked for _, shot in board.shots):
            self.wrong.append(f"refused without any lock: {why}")
        elif with_ids and not retimed and not strangers:
            self.wrong.append(f"refused though every lock could be kept: {why}")

    def _compare(self, path: Path, board: Board, known: Known, latent: dict, locked: dict[int, torch.Tensor]) -> None:
        plan = json.loads((path / "plan.json").read_text())["chunks"]
        record = json.loads((path / "chunks.json").read_text())
        files = {(chunk["shot"], chunk["piece"]): chunk["file"] for chunk in record["chunks"]}
        for number, (own, shot) in enumerate(board.shots):
            pieces = [chunk for chunk in plan if chunk["shot"] == number]
            shown = torch.cat(
                [latent["samples"][:, :, chunk["start"] + chunk["known"] : chunk["end"]] for chunk in pieces], 2
            )
            if own in locked:
                self.counts["locked shots kept"] += 1
                # Without ids a shot that says again what it said once may be that one: prompts decide.
                also = [] if shot.id else known.of_prompt.get((own, shot.prompt), [])
                if not any(torch.equal(shown, one) for one in (locked[own], *also)):
                    self.wrong.append(f"locked shot {number + 1} shows {shown.shape[2]} other latent frames")
            if shot.locked:
                known.locked_files |= {files[number, chunk["piece"]] for chunk in pieces}
            if own not in locked:
                known.seconds[own] = shot.seconds
            known.frames[own] = shown
            known.of_prompt.setdefault((own, shot.prompt), []).append(shown)


def words(rng: random.Random) -> str:
    """A prompt that is alike others, and seldom the same: shots of one prompt come of splitting and copying."""
    return f"{rng.choice(OBJECTS)} {rng.choice(MOVES)} in front of house {rng.randrange(500)}"


def contents(path: Path) -> dict[str, bytes]:
    """Name -> bytes of each file of a run but its lock."""
    if not path.exists():
        return {}
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "run.lock"}
