"""Selection by counting, against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ws_learner.core import in_parts, smallest_at, threshold_counts

TIED = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
FREE = st.floats(allow_nan=False, width=32)
FEW = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("elements", [TIED, FREE], ids=["ties", "free"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@FEW
def test_the_smallest_at_a_rank_is_that_of_a_sort(data: st.DataObject, elements, dtype) -> None:
    values = data.draw(hnp.arrays(dtype, st.integers(1, 40), elements=elements))
    rank = data.draw(st.integers(1, len(values)))
    assert smallest_at(lambda: np.array_split(values, 3), rank, dtype) == np.sort(values)[rank - 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@FEW
def test_counts_at_the_threshold_within_bounds(data: st.DataObject, dtype) -> None:
    """The oracle sorts the values that the bounds leave open, and counts."""
    elements = data.draw(st.sampled_from([TIED, FREE]))
    layers = data.draw(
        st.lists(hnp.arrays(dtype, st.integers(1, 12), elements=elements), min_size=1, max_size=4)
    )
    lower = [data.draw(st.integers(0, len(layer))) for layer in layers]
    upper = [
        data.draw(st.integers(low, len(layer))) for low, layer in zip(lower, layers, strict=True)
    ]
    if sum(lower) == sum(upper):
        return
    total = data.draw(st.integers(sum(lower) + 1, sum(upper)))
    below, not_above = threshold_counts(
        [lambda layer=layer: in_parts(layer) for layer in layers],  # type: ignore[misc]
        lower=lower,
        upper=upper,
        total=total,
        dtype=dtype,
    )
    open_ = [
        np.sort(layer)[low:high] for layer, low, high in zip(layers, lower, upper, strict=True)
    ]
    threshold = np.sort(np.concatenate(open_))[total - sum(lower) - 1]
    for layer, low in enumerate(lower):
        assert below[layer] == low + (open_[layer] < threshold).sum()
        assert not_above[layer] == low + (open_[layer] <= threshold).sum()
