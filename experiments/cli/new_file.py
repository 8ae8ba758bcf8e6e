"""`ws-learner new`: write an experiment file that runs as it is. Free of torch."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, say

__all__ = ["KINDS", "main", "write_experiment"]

KINDS = {
    "image": "classes of images, with a small convolutional network",
    "text": "classes of sentences, with a small transformer",
    "table": "a number from the columns of a table",
}
"""Kind -> what the file holds; the templates are `experiments/templates/<kind>.py`."""

_TEMPLATES = Path(__file__).parents[1] / "templates"
_NAMED = "FILE"  # where the templates name themselves


def main(argv: Sequence[str] | None = None, *, prog: str = "ws-learner new") -> int:
    """Write the file; return 0, or 2 after bad input."""
    kinds = "\n".join(f"  {name:<8} {about}" for name, about in KINDS.items())
    parser = VerbParser(
        prog=prog,
        description="Write an experiment file with comments on what to replace. It runs as it is.",
        epilog=f"kinds:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path("my_experiment.py")
    parser.add_argument("file", nargs="?", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--kind", choices=KINDS, default="image", help="default image")
    given = parser.parse_args(argv)
    try:
        write_experiment(given.file, kind=given.kind)
    except UserError as error:
        say(f"error: {error}")
        return 2
    command = f"ws-learner prune {shlex.quote(str(given.file))}"
    say(f"wrote {given.file}; it runs as it is: {command}")
    return 0


def write_experiment(file: Path, *, kind: str) -> None:
    """Write the template of a kind into a new file.

    Raises:
        UserError: The file exists, or cannot be written.
    """
    name = file.stem
    if file.suffix != ".py" or not name.isidentifier() or keyword.iskeyword(name):
        raise UserError(f"{file}: must be the name of a Python module, such as my_experiment.py")
    if name in sys.stdlib_module_names or _is_installed(name):
        raise UserError(
            f"{file}: a library has the name {name}, and the file would be imported in its place; "
            f"choose another name, such as my_{name}.py"
        )
    text = (_TEMPLATES / f"{kind}.py").read_text()
    text = text.replace(f"prune {_NAMED}", f"prune {file.name}")
    text = text.replace(f"./run_local.sh {_NAMED}", f"./run_local.sh {file.name}")
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError as error:
        raise UserError(f"{file}: is there already; choose another name") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error


def _is_installed(name: str) -> bool:
    """Whether a package or module of this name is installed."""
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return any({"site-packages", "dist-packages"} & set(Path(p).parts) for p in places if p)
