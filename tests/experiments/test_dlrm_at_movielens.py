"""Recommenders: their data, their measure, the quick network and the recipe's pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.dlrm_training import auc
from experiments.models.dlrm import DLRM, OneInput, QuickDLRM
from ws_learner.core.errors import UserError
from ws_learner.data.datasets import movielens
from ws_learner.data.tabular import TableSplit, read_criteo


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    ones = [score for score, label in rows if label]
    zeros = [score for score, label in rows if not label]
    if not ones or not zeros:
        return
    won = sum((a > b) + 0.5 * (a == b) for a in ones for b in zeros)
    scores = torch.tensor([float(score) for score, _ in rows])
    labels = torch.tensor([int(label) for _, label in rows])
    assert auc(scores, labels) == pytest.approx(won / (len(ones) * len(zeros)))


def test_criteo_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    first = ["1", "3", "-2", *[""] * 11, "0a", "ffffffff", *[""] * 24]
    second = ["0", *["0"] * 13, *["10"] * 26]
    path.write_text("\n".join("\t".join(words) for words in (first, second)) + "\n")
    rows, labels = read_criteo(path, rows=100)
    assert labels.tolist() == [1, 0]
    assert rows.shape == (2, 39)
    wanted = [np.log(4), 0, *[0] * 11, 10, 0xFFFFFFFF % 100, *[0] * 24]
    np.testing.assert_allclose(rows[0], wanted, rtol=1e-6)
    assert set(rows[1, 13:].tolist()) == {16.0}
    assert len(read_criteo(path, rows=100, limit=1)[1]) == 1
    path.write_text("1\t2\n")
    with pytest.raises(UserError, match="line 1: not Criteo's format"):
        read_criteo(path, rows=10)
    with pytest.raises(UserError, match="rows 0"):
        read_criteo(path, rows=0)
    with pytest.raises(UserError, match="cannot read"):
        read_criteo(tmp_path / "none", rows=10)


def test_table_split_reads_every_row_once() -> None:
    rows = np.arange(22, dtype=np.float32).reshape(11, 2)
    split = TableSplit(rows, np.arange(11))
    plain = list(split.batches(4))
    assert [len(y) for _, y in plain] == [4, 4, 3]
    mixed = list(split.batches(4, seed=3))
    order = torch.cat([y for _, y in mixed])
    assert sorted(order.tolist()) == list(range(11))
    assert order.tolist() != list(range(11))
    assert all(torch.equal(x[:, 0], 2.0 * y) for x, y in mixed)
    again = list(split.batches(4, seed=3, skip=1, drop_last=True))
    assert len(again) == 1
    assert torch.equal(again[0][1], mixed[1][1])


def test_movielens_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "ml-100k.inter": "head\n1\t5\t4\t100\n2\t7\t3\t300\n1\t6\t5\t200\n",
        "ml-100k.user": "head\n1\t20\tM\tother\t12345\n2\t40\tF\tother\t12999\n",
        "ml-100k.item": "head\n5\tA\t1990\tDrama War\n6\tB\t\tWar\n7\tC\t1994\tDrama\n",
    }
    rows, liked = movielens._rows(files.__getitem__)
    assert liked.tolist() == [1, 0, 1]
    # User, film, gender, occupation, zip code's start, first genre: numbered as they come.
    assert rows[:, 3:].tolist() == [[0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 2, 0, 0, 0, 1]]
    times = np.array([100.0, 300, 200])
    np.testing.assert_allclose(rows[:, 2], (times - 200) / times.std(), rtol=1e-6)
    assert rows[2, 1] == 0  # a year that is not known is the mean


def test_quick_network_is_the_same_but_for_bfloat16() -> None:
    torch.manual_seed(0)
    net = DLRM([7, 5, 9], bottom=(4, 12, 8), top=(16, 1)).eval()
    dense, categories = torch.randn(20, 4), torch.randint(0, 5, (20, 3))
    with torch.no_grad():
        wanted, got = net(dense, categories), QuickDLRM(net)(dense, categories)
        one = OneInput(net, numbers=4)(torch.cat([dense, categories.float()], 1))
    assert torch.equal(one, wanted)
    assert float((got - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
    # By hand: the 4 vectors of an example, every pair once, behind the bottom's output.
    with torch.no_grad():
        vectors = [net.bot_l(dense[:1])[0]]
        vectors += [t.weight[categories[0, i]] for i, t in enumerate(net.emb_l)]
        pairs = [vectors[i] @ vectors[j] for i in range(4) for j in range(i)]
        by_hand = net.top_l(torch.cat([vectors[0], torch.stack(pairs)])[None])[0, 0]
    assert float(by_hand) == pytest.approx(float(wanted[0]), rel=1e-5)
