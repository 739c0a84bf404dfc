"""A kept engine is the one that was asked for, whole, or it is built anew: never an error, and never unpickled."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.batches import BATCH_MAX, BUCKETS, Profile, bucket_of, buckets_for, parts_of, profile_for
from models.runtimes.engine_cache import EngineCache, EngineKey, default_folder

KEY = EngineKey(
    model_id="copydetect-small-v2-0123456789ab",
    network="0123456789abcdef",
    precision="fp16",
    batch="1 32 256",
    gpu="NVIDIA H100 80GB HBM3 / MIG 1g.10gb",
    capability="9.0",
    driver="580.65.06",
    libraries="tensorrt 11.0, torch_tensorrt 2.13.0, torch 2.13.0",
)
ENGINE = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def only_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "engines").iterdir()
    return file


def test_an_engine_comes_back(cache: EngineCache, tmp_path: Path) -> None:
    """What was written is read, byte for byte, and nothing else lies in the folder. Break: leave the newline out."""
    assert cache.read(KEY) is None
    cache.write(KEY, ENGINE)
    assert cache.read(KEY) == ENGINE
    assert only_file(tmp_path).name == KEY.file_name
    assert (tmp_path / "engines").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("field", [field.name for field in fields(EngineKey)])
def test_every_part_of_the_key_counts(cache: EngineCache, field: str) -> None:
    """Another GPU, driver, library, model, network or batch has another file. Break: leave one out of the name."""
    cache.write(KEY, ENGINE)
    other = replace(KEY, **{field: f"{getattr(KEY, field)} "})
    assert other.file_name != KEY.file_name
    assert cache.read(other) is None
    assert cache.read(KEY) == ENGINE


def test_a_file_name_is_harmless() -> None:
    """A GPU may be called anything. Break: put its name into the file's."""
    assert replace(KEY, gpu="../../etc/passwd\0").file_name.removesuffix(".engine").isalnum()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[:-1], id="cut off"),
        pytest.param(lambda content: content + b"x", id="longer"),
        pytest.param(lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], id="a bit flipped"),
        pytest.param(lambda content: content[:40], id="head alone"),
        pytest.param(lambda content: content[content.index(b"\n") :], id="no head"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.", id="a pickle"),
        pytest.param(lambda content: content.replace(b"H100", b"A100"), id="another GPU's"),
        pytest.param(lambda content: content.replace(b'"format": 1', b'"format": 2'), id="another format"),
    ],
)
def test_damage_is_thrown_away(
    cache: EngineCache, tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged, cut off or foreign: a warning, no file, no engine. Break: compare the key alone."""
    assert callable(spoil)
    cache.write(KEY, ENGINE)
    file = only_file(tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.read(KEY) is None
    assert "is built anew" in caplog.text
    assert not file.exists()
    cache.write(KEY, ENGINE)
    assert cache.read(KEY) == ENGINE


def test_a_folder_that_others_may_write_is_not_used(
    cache: EngineCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine is code for the GPU. Break: leave `_is_private` out of `read`, or out of `write`."""
    cache.write(KEY, ENGINE)
    (tmp_path / "engines").chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert cache.read(KEY) is None
        cache.write(replace(KEY, driver="another"), ENGINE)
    assert "others may write it" in caplog.text
    assert [file.name for file in (tmp_path / "engines").iterdir()] == [KEY.file_name]


def test_a_disk_that_refuses_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No folder can be made: the engine is built again next time. Break: let OSError through."""
    (tmp_path / "file").write_text("")
    cache = EngineCache(tmp_path / "file" / "engines")
    with caplog.at_level(logging.WARNING):
        cache.write(KEY, ENGINE)
        assert cache.read(KEY) is None
    assert "builds it again" in caplog.text


def test_writers_do_not_meet(cache: EngineCache, tmp_path: Path) -> None:
    """Workers that build at once leave one whole engine. Break: write into the file itself."""
    engines = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda engine: cache.write(KEY, engine), engines * 4))
    assert cache.read(KEY) in engines
    assert only_file(tmp_path).name == KEY.file_name


def test_a_failed_write_leaves_nothing(cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves neither half an engine nor a temporary file. Break: no `unlink` in `_write_at_once`."""
    cache.write(KEY, ENGINE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.runtimes.engine_cache.os.fsync", full)
    cache.write(KEY, b"newer")
    assert only_file(tmp_path).name == KEY.file_name
    assert cache.read(KEY) == ENGINE


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under the user's cache. Break: ignore XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "dejaview" / "engines"


# -- batch sizes


@given(st.integers(0, 2000), st.integers(1, 600))
def test_parts_cover_a_batch(items: int, batch_items: int) -> None:
    """Every picture is in exactly one part, in order, and each part fits its bucket and not the next smaller one.

    Break: `bucket > end - begin`.
    """
    buckets = buckets_for(batch_items)
    parts = parts_of(items, buckets)
    assert [n for part, _ in parts for n in range(part.start, part.stop)] == list(range(items))
    for part, size in parts:
        count = part.stop - part.start
        assert count <= size
        assert all(smaller < count for smaller in buckets if smaller < size)


@pytest.mark.parametrize(
    ("items", "bucket"), [(0, 1), (1, 1), (2, 8), (8, 8), (9, 32), (33, 64), (65, 128), (129, 256), (9999, 256)]
)
def test_the_next_bucket(items: int, bucket: int) -> None:
    """A batch is padded to the next size there is. Break: take the last smaller one."""
    assert bucket_of(items) == bucket


@given(st.integers(1, 600))
def test_a_profile_takes_every_bucket(batch_items: int) -> None:
    """1 to 256, and the kernels are chosen for the batch in use. Break: `optimum=BATCH_MAX`."""
    profile = profile_for(batch_items)
    assert profile == Profile(1, buckets_for(batch_items)[-1], BATCH_MAX)
    assert profile.least <= min(BUCKETS) <= profile.optimum <= max(BUCKETS) <= profile.most
