"""The package transformers: imported with a line if it is missing, and kept quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ws_learner.core import UserError

__all__ = ["import_transformers", "quiet"]


def import_transformers() -> Any:
    """The package.

    Raises:
        UserError: It is not installed, or cannot be imported here.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise UserError(
            "language models need transformers: pip install 'transformers>=5,<6'"
        ) from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes."""
    logging: Any = import_transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
