"""The page: what the run's files say, put into the template."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws_learner.core import AnyPath, as_path, reading, write_text
from ws_learner.report.html.cards import cards_of
from ws_learner.report.html.commands import commands_of
from ws_learner.report.html.layers import layers_of
from ws_learner.report.html.notices import notices_of
from ws_learner.report.html.protocols import protocols_of
from ws_learner.report.html.run_files import RunFiles, read_files
from ws_learner.report.html.search import frontier_of, search_of
from ws_learner.report.html.settings import settings_of
from ws_learner.report.html.surroundings import recipe_of, splits_of, versions_of
from ws_learner.report.html.training import training_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["write_html"]

_TEMPLATES = Path(__file__).parent / "templates"
_REMEDY = "take its files from a copy, or run the same command again"


def write_html(run_dir: AnyPath, path: AnyPath) -> None:
    """Write the report of a finished run as one HTML page.

    The page is made from the run's files alone, loads nothing, and has no dates: the same files
    give the same bytes. Text of the files is escaped and shortened.

    Args:
        run_dir: The run.
        path: The file.

    Raises:
        UserError: The run is not finished, one of its results is damaged, or the page cannot be
            written.
    """
    run_dir = as_path(run_dir, name="run_dir")
    files = read_files(run_dir)
    with reading(run_dir, _REMEDY):
        text = _page(files)
    write_text(as_path(path), text)


def _page(files: RunFiles) -> str:
    script, style = _source("page.js"), _source("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts: dict[str, Any] = {
        "title": files.title,
        "headline": files.headline,
        "cards": cards_of(files),
        "notices": notices_of(files),
        "layers": layers_of(files),
        "protocols": protocols_of(files),
        "search": search_of(files),
        "frontier": frontier_of(files),
        "training": training_of(files),
        "dense": files.dense_rows,
        "settings": settings_of(files),
        "recipe": recipe_of(files),
        "splits": splits_of(files),
        "versions": versions_of(files),
        "commands": commands_of(files),
    }
    template = _environment().get_template("page.html.j2")
    return template.render(**parts, style=style, script=script, script_digest=digest)


def _source(name: str) -> str:
    """A file of the package as text that the page takes as it is."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = _breakable
    return made


def _breakable(name: str) -> str:
    """A dotted name, escaped, that may go on in the next line after a dot."""
    from markupsafe import Markup

    return Markup(".<wbr>").join(name.split("."))
