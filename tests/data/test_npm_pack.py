"""Packages of npm: the archive has the name that npm gives it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ws_learner.data.download import npm_pack

_NPM = """#!/bin/sh
for word in "$@"; do case "$word" in
  --pack-destination=*) folder="${word#--pack-destination=}" ;;
esac; done
printf archive > "$folder/NAME"
"""


@pytest.mark.parametrize(
    ("package", "file"),
    [("plain@1.2.3", "plain-1.2.3.tgz"), ("@scope/name-of@1.2.3", "scope-name-of-1.2.3.tgz")],
)
def test_archives_of_plain_and_scoped_packages(
    package: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text(_NPM.replace("NAME", file))
    npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm))
    digest = hashlib.sha256(b"archive").hexdigest()
    found = npm_pack(package, tmp_path, digest=digest, megabytes=1)
    assert found.name == file
    assert found.read_bytes() == b"archive"
