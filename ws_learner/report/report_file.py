"""A run's report as a file of the user's choice: Markdown, or a page to send."""

from __future__ import annotations

from pathlib import Path

from ws_learner.core import AnyPath, UserError, as_path
from ws_learner.report.figures import draw_all
from ws_learner.report.html import write_html
from ws_learner.report.markdown import write_report

__all__ = ["refuse_other_ending", "refuse_other_picture", "write_report_file"]

_PAGES, _TEXTS = (".html", ".htm"), (".md", ".markdown", ".txt")
_PICTURES = (".svg", ".png")


def refuse_other_ending(path: AnyPath, *, name: str) -> None:
    """Refuse a file that no kind of report ends in; `name` is the argument.

    Raises:
        UserError: It is one.
    """
    path = as_path(path, name=name)
    if path.suffix.lower() not in (*_PAGES, *_TEXTS):
        raise UserError(f"`{name}` {path}: give a file that ends in .html or .md")


def refuse_other_picture(path: AnyPath, *, name: str) -> None:
    """Refuse a file that `draw_summary` does not write; `name` is the argument.

    Raises:
        UserError: It is one.
    """
    path = as_path(path, name=name)
    if path.suffix.lower() not in _PICTURES:
        raise UserError(f"`{name}` {path}: give a file that ends in .svg or .png")


def write_report_file(run_dir: AnyPath, path: AnyPath) -> Path:
    """Write the report of a finished run to a file; its ending says which kind.

    Args:
        run_dir: The run.
        path: `.html` for one page that holds everything, `.md` for Markdown, whose figures and
            tables stay in the run's folder.

    Returns:
        The file.

    Raises:
        UserError: The ending is another, the file cannot be written, or the run is damaged.
    """
    run_dir, path = as_path(run_dir, name="run_dir"), as_path(path, name="path")
    refuse_other_ending(path, name="path")
    if path.suffix.lower() in _PAGES:
        write_html(run_dir, path)
        return path
    draw_all(run_dir)
    write_report(run_dir)
    return write_report(run_dir, path)
