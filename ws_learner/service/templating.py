"""Fills the templates; all that comes from a run is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ws_learner.service import charts, texts

__all__ = ["Pages", "form_of"]

_MOST_FIELDS = 50


class Pages:
    """The pages of `templates/`."""

    def __init__(self) -> None:
        self._jinja = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            auto_reload=False,  # a page stays as it was when the service was started
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters |= {name: getattr(texts, name) for name in texts.__all__}
        self._jinja.globals |= {"chart": charts.chart, "bars": charts.bars}

    def page(self, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from `templates/NAME.html`."""
        return HTMLResponse(self._jinja.get_template(f"{name}.html").render(values), status)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, which the guard has limited in size."""
    text = (await request.body()).decode("utf-8", "replace")
    if text.count("&") >= _MOST_FIELDS:
        return {}
    return dict(parse_qsl(text))
