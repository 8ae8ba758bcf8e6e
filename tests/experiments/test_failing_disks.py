"""A disk that is full or read-only at any write: one line that helps, and the next run goes on.

The runs are forked from one process (`tests/support/run_server.py`). Each fails at the first write
that no run before it has failed at; the next one goes on in the same folder.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run_server import Ended, RunServer
from tests.support.small_runs import KNOWN_SPEED, RUNS, litter, results

REMEDIES = ("free space", "choose another folder", "`WS_DATA_DIR`")
ALL = ["open", "fsync", "rename", "remove", "mkdir"]


@pytest.fixture(scope="module")
def server() -> Iterator[RunServer]:
    with RunServer() as started:
        yield started


def undisturbed(server: RunServer, name: str, folder: Path) -> dict[str, object]:
    folder.mkdir()
    ended = server.run([*RUNS[name], "--workers", "0"], folder, prepare=KNOWN_SPEED)
    assert ended.code == 0, ended.said
    return results(folder / "run")


def refused(ended: Ended, failed: str) -> None:
    """One line that names the file or its folder, and says what to do."""
    own = "support/failing_writes.py"  # beside the experiment's file, so its lines are shown
    said = [line for line in ended.said.splitlines() if own not in line]
    lines = [line for line in said if line.startswith("error: ")]
    assert ended.code == 2, ended.said
    assert lines == said[-1:], ended.said
    _, _, path = failed.partition(" /")
    named = (path, str(Path(path).parent), Path(path).name)
    assert any(name in lines[0] for name in named), (failed, lines[0])
    assert any(remedy in lines[0] for remedy in REMEDIES), lines[0]


def until_none_is_left(
    server: RunServer,
    folder: Path,
    words: list[str],
    *,
    number: int | None,
    kinds: list[str],
) -> list[str]:
    """Run until no write fails any more; the writes that failed."""
    listed = folder.with_suffix(".failed")
    for count in range(1, 400):
        fault = {"number": number, "listed": str(listed), "kinds": kinds}
        ended = server.run([*words, "--workers", "0"], folder, fault=fault, prepare=KNOWN_SPEED)
        failed = listed.read_text().splitlines()
        if len(failed) < count:
            assert ended.code == 0, ended.said
            return failed
        if number is None:
            assert ended.code == -9, ended.said
        else:
            refused(ended, failed[-1])
            if not failed[-1].startswith("remove"):
                assert litter(folder) == []
    raise AssertionError("it does not end")


@pytest.mark.long
def test_every_file_fails_once_when_it_is_put_in_place(server: RunServer, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    number, kinds = errno.ENOSPC, ["rename"]
    failed = until_none_is_left(server, folder, RUNS["zeros"], number=number, kinds=kinds)
    for file in ("state/dense.pt", "state/search.pt", "state/allocation.json", "state/sparse.pt"):
        assert any(one.endswith(file) for one in failed)
    for file in ("model.safetensors", "ratios.csv", "summary.json", "report.md"):
        assert f"rename /run/{file}" in failed
    assert results(folder / "run") == undisturbed(server, "zeros", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zeros", "units"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, None])
def test_every_write_fails_once(
    number: int | None,
    name: str,
    server: RunServer,
    tmp_path: Path,
) -> None:
    """None: the process is killed in place of it."""
    folder = tmp_path / "work"
    folder.mkdir()
    failed = until_none_is_left(server, folder, RUNS[name], number=number, kinds=ALL)
    print(f"{len(failed)} writes failed, {os.strerror(number) if number else 'killed'}")
    assert results(folder / "run") == undisturbed(server, name, tmp_path / "whole")
    assert [path for path in litter(folder) if not path.startswith("cache")] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("taken", [1024, 960, 880, 600, 400, 300])
def test_a_disk_that_is_full(taken: int, server: RunServer, small_disk: Path) -> None:
    """With more or less of it taken (kB): the library that writes tensors has errors of its own."""
    words = [*RUNS["zeros"], "--workers", "0"]
    whole = small_disk.parent / "whole"
    expected = undisturbed(server, "zeros", whole)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * ((taken - 8) << 10))
    ended = server.run(words, small_disk)
    lines = ended.said.splitlines()
    assert ended.code == 2, ended.said
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], ended.said
    assert "No space left on device; " in lines[-1]
    assert any(remedy in lines[-1] for remedy in REMEDIES)
    assert litter(small_disk) == []
    ballast.unlink()
    ended = server.run(words, small_disk)
    assert ended.code == 0, ended.said
    assert results(small_disk / "run") == expected
