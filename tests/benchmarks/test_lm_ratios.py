"""The table of protocols for the ratios of a language model's blocks."""

from __future__ import annotations

import pytest

from benchmarks.lm_ratios_table import table


def row(protocol: str, target: str, nats: str, ratios: str = "0.6 0.8") -> dict[str, str]:
    return {
        "protocol": protocol,
        "target": target,
        "solver": "" if protocol == "dense" else "sparsegpt",
        "nats": nats,
        "zeros": target,
        "choosing_seconds": "3",
        "ratios": ratios,
    }


ROWS = [
    row("dense", "0.0", "3.0 3.0 3.0", ""),
    row("uniform", "0.7", "4.0 4.2 4.4"),
    row("owl", "0.7", "4.1 4.1 4.1"),
    row("bayesian", "0.7", "3.9 4.0 4.1", "0.50 0.90"),
    row("uniform", "0.6", "3.5 3.6 3.7"),
    row("bayesian", "0.6", "3.6 3.7 3.8"),
]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_differences_are_from_the_same_target_best_first() -> None:
    lines = [cells_of(line) for line in table(ROWS).splitlines()[2:]]
    assert [(cells[0], cells[2]) for cells in lines] == [
        *(("60.0%", "uniform"), ("60.0%", "bayesian")),
        *(("70.0%", "bayesian"), ("70.0%", "owl"), ("70.0%", "uniform")),
    ]
    # Differences -0.1 -0.2 -0.3: mean -0.2, standard deviation 0.1, t(0.975, 2) = 4.303.
    half = 4.303 * 0.1 / 3**0.5
    assert lines[2][5] == f"-0.200 ± {half:.3f}"
    assert lines[2][7] == ""  # progression was not run
    assert lines[1][5] == "+0.100 ± 0.000"
    assert lines[0][5] == ""
    assert lines[2][8] == "0.50 to 0.90"


def test_perplexity_and_its_ratio_to_dense() -> None:
    bayesian = cells_of(table(ROWS).splitlines()[4])
    assert float(bayesian[3]) == pytest.approx(54.598, abs=0.01)  # e^4
    assert float(bayesian[4]) == pytest.approx(2.718, abs=0.001)  # e^(4 - 3)
