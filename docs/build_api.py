"""Write the API pages, docs/api/PACKAGE.md: one page per public package, from its docstrings.

    python docs/build_api.py            writes the pages
    python docs/build_api.py --check    exit code 1 if a page is not current

The pages list what each package's `__all__` lists. griffe2md renders them; no code is imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from griffe import Docstring, GriffeLoader, Object, Parser
from griffe2md import render_object_docs

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "api"
PACKAGES = (
    *("ws_learner", "ws_learner.config", "ws_learner.data", "ws_learner.pruning"),
    *("ws_learner.training", "ws_learner.search", "ws_learner.deploy", "ws_learner.compat"),
    *("ws_learner.report", "ws_learner.service", "ws_learner.core", "agents", "envs"),
)
STYLE = {
    "heading_level": 2,
    "show_root_full_path": False,
    "show_object_full_path": False,
    "show_if_no_docstring": False,
    "show_signature_annotations": True,
    "annotations_path": "brief",
    "summary": False,
    "filters": ["!^_"],
}
_TYPE_LINK = re.compile(r"\[((?:\*\*)?[^\[\]]*(?:\*\*)?)\]\(#[^)]*\)")
"""Links to anchors that Markdown viewers do not make; only their text is kept."""


def pages() -> Iterator[tuple[Path, str]]:
    """Each page's file and text."""
    loader = GriffeLoader(
        search_paths=[str(ROOT)], docstring_parser=Parser("google"), allow_inspection=False
    )
    for top in dict.fromkeys(package.partition(".")[0] for package in PACKAGES):
        loader.load(top)
    loader.resolve_aliases(implicit=True)
    for package in PACKAGES:
        yield OUT / f"{package}.md", _page(package, loader)
    yield OUT / "README.md", _index(loader)


def _page(package: str, loader: GriffeLoader) -> str:
    module = loader.modules_collection[package]
    parts = [f"# {package}", module.docstring.value if module.docstring else ""]
    homes = _homes(loader) if package == "ws_learner" else {}
    elsewhere = [
        f"- `{name}`: see [{homes[name]}]({homes[name]}.md#{name.lower()})"
        for name in sorted(_listed(module), key=lambda name: (name.lower(), name))
        if name in homes
    ]
    parts += ["\n".join(elsewhere)] if elsewhere else []
    for name in sorted(set(_listed(module)) - set(homes), key=lambda name: (name.lower(), name)):
        text = render_object_docs(module[name], STYLE)
        parts.append(_TYPE_LINK.sub(r"\1", _TYPE_LINK.sub(r"\1", text)).strip())
    return "\n\n".join(parts) + "\n"


def _homes(loader: GriffeLoader) -> dict[str, str]:
    """Name -> the package whose page describes it."""
    return {
        name: package
        for package in PACKAGES[:0:-1]
        for name in _listed(loader.modules_collection[package])
    }


def _index(loader: GriffeLoader) -> str:
    """The list of pages, a line each: what the package is."""
    lines = []
    for package in PACKAGES:
        module = loader.modules_collection[package]
        first = _first_line(module.docstring)
        lines.append(f"| [{package}]({package}.md) | {first} | {len(_listed(module))} |")
    head = ["# API", "", "Public names of each package, made by `python docs/build_api.py`.", ""]
    return "\n".join([*head, "| package | what it holds | names |", "|---|---|---:|", *lines, ""])


def _listed(module: Object) -> list[str]:
    return [str(name) for name in module.exports or ()]


def _first_line(docstring: Docstring | None) -> str:
    return docstring.value.partition("\n")[0] if docstring else ""


def main() -> int:
    """Write the pages, or say which are not current."""
    made = dict(pages())
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in made.items() if _read(path) != text]
        stale += [path.name for path in OUT.glob("*.md") if path not in made]
        if stale:
            print(f"docs/api: {', '.join(stale)} not current; run: python docs/build_api.py")
        return 1 if stale else 0
    OUT.mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text)
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
