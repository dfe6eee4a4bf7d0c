"""hosts/prompts/shot_audio.py: a window of a rollout hears what core's own nodes give at its place in the sound."""

import wave
from dataclasses import replace

import pytest
import torch

import folder_paths
from comfy_extras import nodes_audio, nodes_wan

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.shot_sound import lay_sound
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.storyboard.carried import Audio
from longreel.engine.storyboard.faults import StoryboardError
from longreel.hosts import facts_of
from longreel.hosts.prompts import sound_file
from longreel.hosts.prompts.conditioning import encode_timeline
from longreel.hosts.prompts.shot_audio import hear
from longreel.hosts.prompts.sound_file import find_audio, read_sound
from longreel.hosts.sampling import joint, planning, rollout
from tests import tiny_variants
from tests.hosts.prompts.test_moving_conditioning import Shown
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.tiny_nodes.tiny_hearing import HUMO, RATE, S2V, Encoder

SPEECH, OTHER = Audio("speech.wav"), Audio("other.wav")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """ComfyUI's input folder: 2.5 and 1 seconds of noise, something without a sound, and half a file."""
    folder = tmp_path / "input"
    (folder / "speech").mkdir(parents=True)
    for seed, (name, seconds) in enumerate({"speech.wav": 2.5, "other.wav": 1.0}.items()):
        noise = torch.randint(-9999, 9999, (int(seconds * RATE),), generator=torch.Generator().manual_seed(seed))
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(noise.to(torch.int16).numpy().tobytes())
    (folder / "half.wav").write_bytes((folder / "speech.wav").read_bytes()[:20])
    (folder / "list.wav").write_text("#EXTM3U\nspeech.wav\n")
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(folder))
    return folder


def planned(loaded, *sounds: Audio | None, fps: float = 16.0, frames: int = 4):
    shots = tuple(Shot(f"scene {i}", frames * 4 / fps, audio=sound) for i, sound in enumerate(sounds))
    board = Storyboard(shots, width=64, height=64, fps=fps, negative="blurry")
    return plan_timeline(board, facts_of(loaded.model), segment_frames=4, overlap_frames=1)


def by_core(encoder: Encoder, file: str, folder, frame_offset: int, latent_frames: int) -> torch.Tensor:
    """audio_embed of core's Load Audio, Audio Encoder Encode and Wan Sound Image To Video (Extend)."""
    waveform, rate = nodes_audio.load(str(folder / file))
    out = encoder.encode_audio(waveform[None], rate)
    positive, *_ = nodes_wan.wan_sound_to_video(
        [[None, {}]], [[None, {}]], None, 64, 64, 4 * latent_frames - 3, 1, frame_offset, audio_encoder_output=out
    )
    return positive[0][1]["audio_embed"]


@pytest.fixture(scope="module")
def s2v():
    return tiny_variants.load("s2v")


def test_a_chunk_hears_what_cores_nodes_give_for_its_window_and_the_frames_before_it(s2v, files) -> None:
    """A speech over two shots, chunk after chunk: the right part of the sound, and the last frames as motion."""
    encoder, timeline = Encoder(*S2V), planned(s2v, SPEECH, SPEECH)
    conds = encode_timeline(s2v.clip, timeline, encoder)
    shown = Shown(s2v.model)
    with torch.inference_mode():
        rollout.sample_rollout(
            shown.model, timeline, planning.empty_latent(timeline), sampling_of(conds, sigmas_of(s2v.model, 1))
        )
    chunks = plan_chunks(timeline, timeline.overlap_frames)
    assert len(chunks) == len(shown.calls) > 2
    for chunk, call in zip(chunks, shown.calls, strict=True):
        core = by_core(encoder, "speech.wav", files, 4 * chunk.start_frame, chunk.latent_frames)
        rows = [row for row, role in enumerate(call["prompts"]) if role == 0]
        assert core.abs().sum() and torch.equal(call["audio_embed"][rows], core)
        assert not call["audio_embed"][1 - rows[0]].any(), "the negative prompt hears nothing"
        assert (call.get("reference_motion") is not None) == bool(chunk.number)
    assert encoder.heard[0] == 2.5 * RATE and len(encoder.heard) == 1 + len(chunks), "each file is encoded once"


def test_joint_segments_hear_their_own_frames(s2v, files) -> None:
    encoder, timeline = Encoder(*S2V), planned(s2v, SPEECH, SPEECH)
    shown = Shown(s2v.model)
    sampling = sampling_of(encode_timeline(s2v.clip, timeline, encoder), sigmas_of(s2v.model, 1))
    with torch.inference_mode():
        joint.sample_timeline(shown.model, timeline, planning.empty_latent(timeline), sampling, blend="triangle")
    for segment, call in zip(timeline.segments, shown.calls, strict=True):
        start = max(0, segment.start_frame - 1)  # the lead frame
        core = by_core(encoder, "speech.wav", files, 4 * start, segment.end_frame - start)
        assert torch.equal(call["audio_embed"][[row for row, role in enumerate(call["prompts"]) if role == 0]], core)


def test_humo_hears_what_cores_node_gives(files) -> None:
    loaded, encoder = tiny_variants.load("humo_17"), Encoder(*HUMO)
    timeline = planned(loaded, SPEECH, SPEECH, fps=25.0)
    out = encoder.encode_audio(nodes_audio.load(str(files / "speech.wav"))[0][None], RATE)
    core = nodes_wan.WanHuMoImageToVideo.execute(
        [[None, {}]], [[None, {}]], None, 64, 64, 4 * timeline.latent_frames - 3, 1, audio_encoder_output=out
    ).result[0][0][1]["audio_embed"]
    assert torch.equal(hear(encoder, timeline).embed, core)


def test_whisper_which_hears_thirty_seconds_is_given_a_long_sound_in_parts() -> None:
    loaded = tiny_variants.load("humo_17")
    encoder, timeline = Encoder(*HUMO, most=RATE), planned(loaded, SPEECH, fps=25.0, frames=12)
    parts, whole = hear(encoder, timeline).embed, hear(Encoder(*HUMO), timeline).embed
    assert encoder.heard == [RATE, RATE, RATE // 2]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize(
    ("sounds", "firsts"),
    [
        ((SPEECH, SPEECH), [0, None]),
        ((SPEECH, replace(SPEECH, offset=0.5)), [0, 8]),
        ((SPEECH, OTHER), [0, 0]),
        ((SPEECH, None, SPEECH), [0, 0]),
        ((replace(SPEECH, offset=0.25), SPEECH, SPEECH), [4, None, None]),
    ],
)
def test_a_sound_goes_on_in_the_next_shot_or_begins_where_its_offset_says(s2v, sounds, firsts) -> None:
    """None: where the shot before has stopped, to the frame."""
    found, before = lay_sound(planned(s2v, *sounds), lambda frame: 4 * frame), None
    starts = [4 * one.start_frame for one in planned(s2v, *sounds).shots if one.shot.audio]
    assert [laid.start for laid in found] == starts
    for laid, first in zip(found, firsts, strict=True):
        assert laid.first == (before.first + before.end - before.start if first is None else first)
        assert first is not None or laid.start == before.end
        before = laid


def test_shots_without_a_sound_and_what_lies_behind_its_end_are_silent(s2v, files) -> None:
    timeline = planned(s2v, None, OTHER, None, frames=6)
    embed = hear(Encoder(*S2V), timeline).embed[0].abs().sum((0, 1))
    start = 4 * timeline.shots[1].start_frame
    heard = (embed > 0).nonzero().flatten().tolist()
    assert heard == list(range(start, start + 16)), "one second of 16 frames, under the second shot"


def test_another_sound_makes_its_own_chunks_again_and_those_behind_them(s2v, files, tmp_path) -> None:
    def report(*sounds: Audio | None) -> list[bool]:
        timeline = planned(s2v, *sounds)
        sampling = sampling_of(encode_timeline(s2v.clip, timeline, Encoder(*S2V)), sigmas_of(s2v.model, 1))
        with torch.inference_mode(), open_run(tmp_path / "run") as run:
            latent = planning.empty_latent(timeline)
            said = rollout.sample_rollout(Shown(s2v.model).model, timeline, latent, sampling, run=run)[1]
            run.finish(False)
        return ["reused" in line for line in said.splitlines() if "chunk" in line and "shot" in line]

    report(SPEECH, SPEECH, SPEECH)
    assert all(report(SPEECH, SPEECH, SPEECH)), "resumes"
    after = report(SPEECH, SPEECH, OTHER)
    assert after[0] and not after[-1], after


@pytest.mark.parametrize(
    ("sound", "encoder", "said"),
    [
        (
            SPEECH,
            None,
            "^shot 2: audio speech.wav is to be heard, and no audio encoder is wired; wire core's Load Audio",
        ),
        (
            SPEECH,
            Encoder(13, 768),
            "^shot 2: the audio encoder gives 13 layers of 768 numbers; Wan 2.2 S2V hears 25 of",
        ),
        (
            replace(OTHER, offset=1.5),
            Encoder(*S2V),
            r"^shot 2, audio: offset is 1.5, and other.wav ends at 1.00 s; write",
        ),
        (Audio("none.wav"), Encoder(*S2V), "^shot 2, audio: file is 'none.wav', no file in "),
        (Audio("half.wav"), Encoder(*S2V), "^shot 2, audio: half.wav is damaged, or not what its ending says"),
        (Audio("list.wav"), Encoder(*S2V), "^shot 2, audio: list.wav is damaged, or not what its ending says"),
    ],
)
def test_what_cannot_be_heard_is_said_with_its_shot(s2v, sound, encoder, said) -> None:
    with pytest.raises(ValueError, match=said):
        encode_timeline(s2v.clip, planned(s2v, None, sound), encoder)


@pytest.mark.parametrize(
    ("encoder", "model", "said"),
    [
        (
            S2V,
            "wan21",
            "^shot 2: audio speech.wav is for Wan 2.2 S2V and HuMo, and this model, WAN21, hears nothing; take",
        ),
        (
            HUMO,
            "s2v",
            "^shot 2: audio speech.wav was encoded by whisper large v3, and this model, WAN22_S2V, hears wav2",
        ),
    ],
)
def test_a_network_that_does_not_hear_it_is_refused_before_sampling(tiny_models, s2v, encoder, model, said) -> None:
    loaded = s2v if model == "s2v" else tiny_models[model].load()
    timeline = planned(loaded, None, SPEECH)
    conds, latent = encode_timeline(loaded.clip, timeline, Encoder(*encoder)), planning.empty_latent(timeline)
    sampling = sampling_of(conds, sigmas_of(loaded.model, 1))
    with pytest.raises(ValueError, match=said):
        joint.sample_timeline(loaded.model, timeline, latent, sampling, blend="triangle")
    with pytest.raises(ValueError, match=said):
        rollout.sample_rollout(loaded.model, timeline, latent, sampling)


def test_a_file_is_read_as_core_reads_it_and_no_further_than_asked(files) -> None:
    core, rate = nodes_audio.load(str(files / "speech.wav"))
    sound = read_sound(files / "speech.wav")
    assert torch.equal(sound.waveform, core) and sound.rate == rate and sound.whole and sound.seconds == 2.5
    part = read_sound(files / "speech.wav", most_seconds=0.5)
    assert torch.equal(part.waveform, core[:, : RATE // 2]) and not part.whole


def test_a_shot_that_needs_more_of_a_file_than_is_read_is_refused(s2v, monkeypatch) -> None:
    monkeypatch.setattr("longreel.hosts.prompts.shot_audio.read_sound", lambda path: sound_file.read_sound(path, 1.5))
    with pytest.raises(ValueError, match=r"^shot 2, audio: it needs speech.wav up to 2.25 s, and 600 s of a file are"):
        hear(Encoder(*S2V), planned(s2v, SPEECH, SPEECH))


def test_names_that_are_no_sound_or_leave_the_folder_are_refused(files) -> None:
    (files / "notes.txt").write_text("a")
    with pytest.raises(StoryboardError, match="^file is 'notes.txt', and sound is read from .wav, .mp3"):
        find_audio("notes.txt")
    with pytest.raises(StoryboardError, match="leaves the input folder"):
        find_audio("../speech.wav")
