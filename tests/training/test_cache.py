"""training/cache.py: encoded once, addressed by content, resumed after a kill, and never out of date."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from longreel.training.cache import Cache
from longreel.training.dataset import parts_of, read_dataset
from tests.training.tiny_student import GEOMETRY, TinyEncoder, write_board, write_clip, write_dataset


class Interruption(Exception):
    pass


def parts(folder, segments: int = 1):
    return parts_of(read_dataset(folder, GEOMETRY), segments)


@pytest.fixture
def clips(tmp_path):
    return write_dataset(tmp_path / "clips", clips=2)


def test_what_was_encoded_is_read_back(clips, tmp_path):
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    wanted = parts(clips)
    assert cache.prepare(wanted) == 4 + 1 + 4  # latents, the empty prompt, prompts
    assert cache.latent(wanted[0]).shape == (4, 3, 2, 2)
    assert not torch.equal(cache.latent(wanted[0]), cache.latent(wanted[1]))
    heard = cache.conditioning(("clip0 part 0", ""))["text"]
    assert heard.shape == (2, 2, 8) and torch.equal(heard[0], TinyEncoder().encode_text("clip0 part 0")["text"])


def test_nothing_is_encoded_twice(clips, tmp_path):
    Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY).prepare(parts(clips))
    again = TinyEncoder()
    assert Cache(tmp_path / "cache", again, GEOMETRY).prepare(parts(clips)) == 0
    assert not again.videos and not again.texts


def test_the_same_bytes_under_another_name_are_the_same_clip(clips, tmp_path):
    Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY).prepare(parts(clips))
    (clips / "clip0").rename(clips / "renamed")
    (clips / "clip0.json").rename(clips / "renamed.json")
    assert Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY).prepare(parts(clips)) == 0


def test_a_killed_preparation_goes_on_where_it_stopped(clips, tmp_path):
    first, second = TinyEncoder(), TinyEncoder()

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise Interruption

    with pytest.raises(Interruption):
        Cache(tmp_path / "cache", first, GEOMETRY).prepare(parts(clips), stop)
    # What a process that was killed while it wrote leaves behind is no cache file.
    folder = next((tmp_path / "cache" / "latents").iterdir())
    (folder / ".0123.safetensors-half").write_bytes(b"half")
    assert (len(first.videos), len(first.texts)) == (3, 4)
    assert Cache(tmp_path / "cache", second, GEOMETRY).prepare(parts(clips)) == 2
    assert (len(second.videos), len(second.texts)) == (1, 1)


def test_a_clip_that_changed_is_encoded_again_and_the_others_are_not(clips, tmp_path):
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    cache.prepare(parts(clips))
    before = cache.latent(parts(clips)[0])
    (clips / "clip0" / "0004.png").write_bytes((clips / "clip1" / "0009.png").read_bytes())
    assert cache.prepare(parts(clips)) == 2  # both parts of clip0
    assert not torch.equal(cache.latent(parts(clips)[0]), before)


@pytest.mark.parametrize(
    ("change", "made"), [({"video_identity": "another vae"}, 4), ({"text_identity": "another text encoder"}, 5)]
)
def test_another_encoder_encodes_its_own(clips, tmp_path, change, made):
    Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY).prepare(parts(clips))
    other = TinyEncoder()
    for name, value in change.items():
        setattr(other, name, value)
    assert Cache(tmp_path / "cache", other, GEOMETRY).prepare(parts(clips)) == made


def test_segments_of_another_length_are_encoded_apart(clips, tmp_path):
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    cache.prepare(parts(clips))
    assert cache.prepare(parts(clips, 2)) == 2
    assert cache.latent(parts(clips, 2)[0]).shape == (4, 5, 2, 2)
    # Two segments of three frames have the frames of one of five, and of nothing else.
    longer = dataclasses.replace(GEOMETRY, segment_latent_frames=5)
    write_board(clips, "clip0", ["long"], seconds=2.0)
    write_board(clips, "clip1", ["long"], seconds=2.0)
    assert Cache(tmp_path / "cache", TinyEncoder(), longer).prepare(parts_of(read_dataset(clips, longer), 1)) == 1


def test_latents_are_used_as_they_are(tmp_path):
    latent = torch.randn(4, 5, 2, 2)
    (tmp_path / "clips").mkdir()
    save_file({"latent": latent.half()}, tmp_path / "clips" / "a.safetensors")
    write_board(tmp_path / "clips", "a", ["x", "y"])
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    cache.prepare(parts(tmp_path / "clips", 2))
    assert not cache.encoder.videos and not (tmp_path / "cache" / "latents").exists()
    assert torch.equal(cache.latent(parts(tmp_path / "clips", 2)[0]), latent.half().float())


def test_a_vae_of_another_family_is_refused(clips, tmp_path):
    encoder = TinyEncoder()
    encoder.encode_video = lambda pixels: torch.zeros(16, 3, 2, 2)
    with pytest.raises(ValueError, match=r"a latent \[16, 3, 2, 2\] of clip0 and the data set's are \[4, 3, 2, 2\]"):
        Cache(tmp_path / "cache", encoder, GEOMETRY).prepare(parts(clips))


def test_latents_that_are_no_numbers_are_refused(clips, tmp_path):
    encoder = TinyEncoder()
    encoder.encode_video = lambda pixels: torch.full((4, 3, 2, 2), float("inf"))
    with pytest.raises(ValueError, match="48 of 48 numbers of clip0 infinite or not a number"):
        Cache(tmp_path / "cache", encoder, GEOMETRY).prepare(parts(clips))
    assert not list((tmp_path / "cache").rglob("latents/**/*.safetensors"))


def test_texts_that_are_no_numbers_are_refused(clips, tmp_path):
    encoder = TinyEncoder()
    plain = encoder.encode_text
    encoder.encode_text = lambda prompt: {**plain(prompt), "text": torch.full((1, 8), float("nan"))}
    with pytest.raises(ValueError, match="the text encoder made of the prompt '': text has 8 of 8 numbers NaN or inf"):
        Cache(tmp_path / "cache", encoder, GEOMETRY).prepare(parts(clips))
    assert not list((tmp_path / "cache").rglob("texts/**/*.safetensors"))


@pytest.mark.parametrize("kind", ["latents", "texts"])
def test_what_was_kept_before_anybody_looked_is_named_with_its_file(clips, tmp_path, kind: str):
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    cache.prepare(parts(clips))
    for path in (tmp_path / "cache" / kind).rglob("*.safetensors"):
        save_file({name: torch.full_like(value, float("nan")) for name, value in load_file(path).items()}, path)
    part = parts(clips)[0]
    with pytest.raises(ValueError, match=rf"{kind}.*\.safetensors of .*numbers NaN or infinite; delete it"):
        cache.latent(part) if kind == "latents" else cache.conditioning(part.prompts)


def test_texts_of_a_length_of_their_own_are_refused(tmp_path):
    write_clip(tmp_path / "clips", "a", 1)
    encoder = TinyEncoder()
    encoder.encode_text = lambda prompt: {"text": torch.zeros(1 + len(prompt), 8)}
    cache = Cache(tmp_path / "cache", encoder, GEOMETRY)
    cache.prepare(parts(tmp_path / "clips"))
    with pytest.raises(ValueError, match=r"\[9, 8\].* of the prompt 'a part 0' and .*\[1, 8\].* of the empty one"):
        cache.conditioning(("a part 0",))


def test_what_was_not_prepared_or_is_damaged_is_named(clips, tmp_path):
    cache = Cache(tmp_path / "cache", TinyEncoder(), GEOMETRY)
    with pytest.raises(ValueError, match="the cache has no file of clip0"):
        cache.latent(parts(clips)[0])
    cache.prepare(parts(clips))
    for path in (tmp_path / "cache" / "latents").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match="is no whole cache file of clip0 .*30 bytes"):
        cache.latent(parts(clips)[0])
