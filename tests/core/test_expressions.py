"""Regular expressions of people and files."""

from __future__ import annotations

import dataclasses

import pytest

from ws_learner import UserError
from ws_learner.core import compile_expression


def test_a_part_and_the_whole() -> None:
    found = compile_expression(r"layer[34]\.\w+")
    assert found.search("net.layer3.conv1")
    assert not found.fullmatch("net.layer3.conv1")
    assert found.fullmatch("layer3.conv1")
    assert not found.search("layer5.conv1")


def test_a_search_has_a_limit_of_time() -> None:
    """A name of a million characters takes longer than a tenth of a millisecond."""
    quick = dataclasses.replace(compile_expression(r"(\d|x)*\d"), seconds=1e-4)
    with pytest.raises(UserError, match=r"takes more than 0\.0001 s on 1+\.\.\.1+; write it with"):
        quick.fullmatch("1" * 1_000_000)


@pytest.mark.parametrize(("text", "said"), [("(", "no regular expr"), ("a" * 2001, "longer than")])
def test_what_is_no_expression(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        compile_expression(text)
    assert len(str(error.value)) < 250
