"""HTML as a browser's parser sees it, as far as tests look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


@dataclass
class Node:
    """An element: its name, attributes, children, and text in order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    parts: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def all(self, tag: str = "") -> list[Node]:
        """The elements below, in order; with a tag only those."""
        found = []
        for part in self.parts:
            if isinstance(part, Node):
                found += ([part] if tag in ("", part.tag) else []) + part.all(tag)
        return found

    def having(self, name: str, value: str) -> list[Node]:
        """The elements below whose attribute has the value among its words."""
        return [node for node in self.all() if value in node.attributes.get(name, "").split()]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}>: an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse_page(text: str) -> Node:
    """The page as a tree; every element must be closed."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root], [node.tag for node in parser.open]
    return parser.root


def table_after(page: Node, heading: str) -> list[list[str]]:
    """Rows of the first table after the heading with this id, as stripped texts."""
    nodes = page.all()
    place = next(i for i, node in enumerate(nodes) if node.attributes.get("id") == heading)
    table = next(node for node in nodes[place:] if node.tag == "table")
    return [
        [cell.text.strip() for cell in row.parts if isinstance(cell, Node)]
        for row in table.all("tr")
    ]
