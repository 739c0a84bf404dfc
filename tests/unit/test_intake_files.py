"""R7: a `file://` reference reads regular files inside the allowed folders, and nothing else."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

import stream.intake.files as module
from schemas.events import Reason, UploadReference
from stream.config import IntakeSettings
from stream.errors import ItemError, SettingError, StoreUnavailable
from stream.intake.deadline import Deadline
from stream.intake.fetch import Fetcher
from stream.intake.files import FileStore

CONTENT = b"a picture"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder beside a forbidden one."""
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    (allowed / "deep" / "er").mkdir(parents=True)
    other.mkdir()
    for place in (allowed, allowed / "deep" / "er", other):
        (place / "a.jpg").write_bytes(CONTENT)
    (allowed / "ein Bild \u00fc.jpg").write_bytes(CONTENT)
    (allowed / "inside").symlink_to(allowed / "deep")
    (allowed / "outside").symlink_to(other)
    (allowed / "outside.jpg").symlink_to(other / "a.jpg")
    (allowed / "circle").symlink_to(allowed / "circle")
    os.mkfifo(allowed / "queue")
    return allowed


def fetch(root: Path, uri: str, sha256: str | None = None, **settings: object) -> bytes:
    fetcher = Fetcher(IntakeSettings(file_roots=[root], **settings))
    return fetcher.fetch(UploadReference(uri=uri, sha256=sha256))


def reason(root: Path, uri: str, **settings: object) -> Reason:
    with pytest.raises(ItemError) as caught:
        fetch(root, uri, **settings)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("name", ["a.jpg", "deep/er/a.jpg", "inside/er/a.jpg", "ein Bild \u00fc.jpg"])
@pytest.mark.parametrize("scheme", ["file://", "FILE://", "file://localhost"])
def test_inside(root: Path, scheme: str, name: str) -> None:
    """Files below the folder are read, through links that stay inside too. Break: refuse every link."""
    assert fetch(root, f"{scheme}{root}/{name}") == CONTENT


def test_root_behind_a_link(root: Path, tmp_path: Path) -> None:
    """A folder that is itself a link is allowed under both names. Break: compare with the name as written only."""
    (tmp_path / "link").symlink_to(root)
    for place in (tmp_path / "link", root):
        assert fetch(tmp_path / "link", f"file://{place}/a.jpg") == CONTENT


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../allowed-not/a.jpg",
        "{root}-not/a.jpg",
        "{root}/deep/../../allowed-not/a.jpg",
        "{root}/outside/a.jpg",
        "{root}/outside.jpg",
        "{root}/%2e%2e/allowed-not/a.jpg",
        "{root}/a.jpg?x",
        "{root}/a.jpg#x",
        "{root}//a.jpg",
        "{root}/./a.jpg",
        "{root}",
        "{root}/",
        "{root}/deep",
        "{root}/queue",
        "{root}/circle",
        "{root}/" + "x" * 300,
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "//etc/passwd",
        "/",
        "",
    ],
)
def test_escapes(root: Path, path: str) -> None:
    """No way leads out of the folder. Break: skip `_inside`, or the check of the parts."""
    assert reason(root, "file://" + path.format(root=root)) is Reason.URI_REFUSED


@pytest.mark.parametrize("host", ["elsewhere", "127.0.0.1", "user@localhost", "localhost:1", "."])
def test_host(root: Path, host: str) -> None:
    """A file reference names no host. Break: ignore it."""
    assert reason(root, f"file://{host}{root}/a.jpg") is Reason.URI_REFUSED


def refusal(store: FileStore, uri: str) -> ItemError | None:
    try:
        store.read(uri, Deadline(1))
    except ItemError as error:
        return error
    return None


def test_nothing_outside_is_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer never tells what exists elsewhere. Break: compare prefixes without the slash,
    or resolve links first.
    """
    looked: list[object] = []
    store = FileStore([root], 100)

    def look(name: object, *_: object, **__: object) -> None:
        looked.append(name)
        raise OSError(errno.ENOENT, "looked at")

    for path in ("/etc/passwd", "/nonexistent", f"{root}-not/a.jpg"):
        with monkeypatch.context() as patched:
            patched.setattr(os.path, "realpath", look)
            patched.setattr(os, "open", look)
            error = refusal(store, f"file://{path}")
        assert error is not None
        assert error.reason is Reason.URI_REFUSED
    assert looked == []


@pytest.mark.parametrize("swapped", ["deep/er/a.jpg", "deep/er", "deep"])
def test_swapped_after_the_check(root: Path, monkeypatch: pytest.MonkeyPatch, swapped: str) -> None:
    """A name that becomes a link between check and opening is not followed. Break: drop O_NOFOLLOW, or open the
    whole path at once.
    """
    outside = root.parent / "allowed-not"
    (outside / "er").mkdir()
    (outside / "er" / "a.jpg").write_bytes(b"secret")
    inside = module._inside

    def swap_after(real: str, root_: str) -> list[str]:
        names = inside(real, root_)
        (root / swapped).rename(root / "moved")
        (root / swapped).symlink_to({"deep": outside, "deep/er": outside / "er"}.get(swapped, outside / "a.jpg"))
        return names

    monkeypatch.setattr(module, "_inside", swap_after)
    with pytest.raises(ItemError):
        fetch(root, f"file://{root}/deep/er/a.jpg")


def test_missing(root: Path) -> None:
    """A file that is not there is `uri_not_found`. Break: take it for a store that is away."""
    assert reason(root, f"file://{root}/b.jpg") is Reason.URI_NOT_FOUND
    assert reason(root, f"file://{root}/a.jpg/b.jpg") is Reason.URI_NOT_FOUND


def test_folder_gone(root: Path) -> None:
    """A folder that was there at start and is gone (a lost mount) is not the item's fault. Break: drop that check."""
    fetcher = Fetcher(IntakeSettings(file_roots=[root]))
    root.rename(root.parent / "unmounted")
    with pytest.raises(StoreUnavailable):
        fetcher.fetch(UploadReference(uri=f"file://{root}/a.jpg"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT])
def test_broken_disk(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Trouble of the disk or the worker is not the item's fault. Break: translate every OSError to `uri_refused`."""

    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(StoreUnavailable):
        fetch(root, f"file://{root}/a.jpg")


def test_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than `bytes_max` + 1 bytes are read. Break: read in whole chunks and look afterwards."""
    taken: list[bytes] = []
    read = os.read

    def counted(descriptor: int, length: int) -> bytes:
        taken.append(read(descriptor, length))
        return taken[-1]

    monkeypatch.setattr(os, "read", counted)
    assert fetch(root, f"file://{root}/a.jpg", bytes_max=len(CONTENT)) == CONTENT
    taken.clear()
    assert reason(root, f"file://{root}/a.jpg", bytes_max=len(CONTENT) - 2) is Reason.TOO_LARGE
    assert sum(map(len, taken)) == len(CONTENT) - 1


def test_checksum(root: Path) -> None:
    """Bytes that are not the announced ones are refused. Break: skip the comparison."""
    uri = f"file://{root}/a.jpg"
    assert fetch(root, uri, hashlib.sha256(CONTENT).hexdigest()) == CONTENT
    with pytest.raises(ItemError) as caught:
        fetch(root, uri, "0" * 64)
    assert caught.value.reason is Reason.SHA256_MISMATCH


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://example.org/a.jpg", Reason.URI_REFUSED),
        ("https://example.org/a.jpg", Reason.URI_REFUSED),
        ("s3://bucket/a.jpg", Reason.URI_REFUSED),
        ("ftp://example.org/a.jpg", Reason.URI_REFUSED),
        ("data:image/png;base64,AAAA", Reason.URI_REFUSED),
        ("C:\\a.jpg", Reason.BAD_REFERENCE),
        ("a.jpg", Reason.BAD_REFERENCE),
        ("/etc/passwd", Reason.BAD_REFERENCE),
        ("://x", Reason.BAD_REFERENCE),
        ("file:/etc/passwd", Reason.BAD_REFERENCE),
        ("file:///a\n.jpg", Reason.BAD_REFERENCE),
        ("file:///a\0.jpg", Reason.BAD_REFERENCE),
        ("fi\tle:///a.jpg", Reason.BAD_REFERENCE),
        ("file:///a\u202e.jpg", Reason.BAD_REFERENCE),
    ],
)
def test_other_schemes(root: Path, uri: str, expected: Reason) -> None:
    """What is not enabled is refused, what is no URI is a bad reference. Break: default to a store."""
    assert reason(root, uri) is expected


def test_nothing_enabled() -> None:
    """Without settings nothing is fetched at all. Break: enable file:// without a folder."""
    with pytest.raises(ItemError) as caught:
        Fetcher(IntakeSettings()).fetch(UploadReference(uri="file:///etc/passwd"))
    assert caught.value.reason is Reason.URI_REFUSED


def test_folder_must_exist(tmp_path: Path) -> None:
    """A folder that does not exist refuses to start and is named. Break: skip the check."""
    with pytest.raises(SettingError, match="nowhere"):
        Fetcher(IntakeSettings(file_roots=[tmp_path / "nowhere"]))
