"""What arrives from a cluster lands in the run's folder, or nowhere."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from experiments.cli.ray.fetch import fetch, unpack
from ws_learner import UserError


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return printed(buffer.getvalue())


def printed(data: bytes) -> str:
    return f"BEGIN {hashlib.sha256(data).hexdigest()}\n{base64.b64encode(data).decode()}\nEND"


def test_a_file_lands_inside(tmp_path: Path) -> None:
    unpack(packed((tarfile.TarInfo("a/b.txt"), b"hello")), tmp_path / "run")
    assert (tmp_path / "run" / "a" / "b.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt"])
def test_no_file_lands_outside(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(packed((tarfile.TarInfo(name), b"x")), tmp_path / "run")
    assert not (tmp_path / "out.txt").exists()


def test_no_link_leads_outside(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "../elsewhere"
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(packed((link, b"")), tmp_path / "run")


@pytest.mark.parametrize("text", ["", "BEGIN", printed(b"no archive")])
def test_what_is_no_folder_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fetch: what arrived"):
        unpack(text, tmp_path / "run")


@pytest.mark.parametrize("place", ["..", "/runs/..", "/runs/a\x1b[31m"])
def test_a_run_has_a_plain_name(place: str, tmp_path: Path) -> None:
    class Jobs:
        def log(self, run: str) -> str:
            return f"run directory: {place}\n"

        def run_small(self, entrypoint: str, *, name: str) -> str:
            raise AssertionError("asked for a folder of such a name")

    with pytest.raises(UserError, match="has no plain name"):
        fetch(Jobs(), "one", tmp_path)
