"""`.ci/make_venv.sh`: what it says when the set-up is interrupted, and when it fails."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "make_venv.sh"
PYTHON = """\
#!/bin/sh
# Stands in for Python: makes .venv from itself, and pip ends as END says.
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"pip install"*) {end} ;;
esac
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("kill -INT $PPID; exit 1", 130, "set-up interrupted; the same command goes on"),
        ("kill -TERM $PPID; exit 1", 143, "set-up interrupted; the same command goes on"),
        ("exit 1", 2, "error: set-up failed (see above); mend it"),
        ("exit 0", 0, ""),
    ],
)
def test_how_a_set_up_ends(end: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    python = tmp_path / "python"
    python.write_text(PYTHON.replace("{end}", end))
    python.chmod(0o755)
    done = subprocess.run(
        [tmp_path / ".ci" / "make_venv.sh"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        # A process in the background of a shell has SIGINT ignored, and so have its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first, *more = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert first.startswith("setting up .venv")
    assert [line.startswith(said) for line in more] == [True] * bool(said)
    assert (tmp_path / ".venv" / "stamp").exists() == (code == 0)
