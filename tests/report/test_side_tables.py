"""`protocols.csv`: counts that no layer can have are damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from ws_learner import UserError
from ws_learner.report.html.side_files import read_protocols

HEAD = "layer,weights,erk,uniform\n"


def test_counts_up_to_all_weights_are_read(tmp_path: Path) -> None:
    file = tmp_path / "protocols.csv"
    file.write_text(HEAD + "a,100,0,100\nb,9,7,6\n")
    assert read_protocols(file)["uniform"].tolist() == [100, 6]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,100,101,0\n", "more zeros than weights"),
        ("a,0,0,0\n", "more zeros than weights"),
        ("a,100,-1,0\n", "no whole number"),
        ("a,100,1.5,0\n", "no whole number"),
        ("a,100,1,0\na,100,2,0\n", "there twice"),
    ],
)
def test_other_counts_are_damage(tmp_path: Path, rows: str, said: str) -> None:
    file = tmp_path / "protocols.csv"
    file.write_text(HEAD + rows)
    with pytest.raises(UserError, match=said):
        read_protocols(file)
