"""Layer tables without a network."""

from __future__ import annotations

from envs.problem import LayerRow


def layer_rows(sizes: list[int], exempt: tuple[int, ...] = ()) -> tuple[LayerRow, ...]:
    """A layer table of Linear layers with these numbers of weights."""
    return tuple(
        LayerRow(
            name=f"layer{i}.weight",
            kind="linear",
            role="ff",
            shape=(size, 1),
            weights=size,
            macs=size,
            exempt=i in exempt,
        )
        for i, size in enumerate(sizes)
    )
