"""Tables of the comparison with Torch-Pruning."""

from __future__ import annotations

import pytest

from benchmarks.structured_rivals import markdown


def test_leads_are_paired_by_seed() -> None:
    rows = [
        {"network": "net", "share": 0.5, "seed": seed, "entrant": name, "accuracy": accuracy,
         "accuracy_untrained": 0.1, "ms_over_ours": 1.01, "params": 1000}
        for seed, name, accuracy in [
            (0, "ours", 0.8), (0, "rival", 0.75), (1, "ours", 0.7), (1, "rival", 0.72),
        ]
    ]  # fmt: skip
    table = markdown(rows).splitlines()
    assert table[0] == "## net, 0.5 of the dense latency"
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in table[4:]}
    assert float(cells["ours"][1]) == pytest.approx(75.0)
    assert float(cells["rival"][1]) == pytest.approx(73.5)
    assert cells["rival"][2] == "+5.00, -2.00"
