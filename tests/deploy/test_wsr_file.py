"""The `.wsr` file: what goes in comes out, small, and nothing damaged is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sparse_layers import block_matrix
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime.sparse_coding import decode_sparse, encode_sparse
from ws_learner.deploy.runtime.wsr_file import read_wsr, write_wsr


@pytest.mark.long
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    block=st.sampled_from([(1, 1), (2, 1), (4, 1), (1, 4), (4, 4), (16, 4)]),
    density=st.sampled_from([0, 0.01, 0.1, 0.5, 1]),
    values=st.sampled_from(["fp32", "bf16", "int8"]),
    seed=st.integers(0, 99),
)
def test_matrices_come_back(
    shape: tuple[int, int], block: tuple[int, int], density: float, values: str, seed: int
) -> None:
    matrix = block_matrix(np.random.default_rng(seed), shape, block, density)
    wanted = matrix
    if values == "int8":
        matrix = wanted = (matrix * 40).clip(-127, 127).astype(np.int8)
    if values == "bf16":
        wanted = torch.from_numpy(matrix).bfloat16().float().numpy()
    head, parts = encode_sparse(matrix, values)
    np.testing.assert_array_equal(decode_sparse(head, np.concatenate(parts)), wanted)


@pytest.mark.parametrize(("values", "bytes_each", "limit"), [("fp32", 4, 1.15), ("int8", 1, 1.35)])
def test_size_is_near_the_least_possible(
    tmp_path: Path, values: str, bytes_each: int, limit: float
) -> None:
    n, k = 512, 768
    live = np.random.default_rng(0).permutation(n * k) < n * k // 10
    matrix = np.where(live, 3.0, 0.0).reshape(n, k).astype(np.float32)
    tensor = torch.from_numpy(matrix)
    write_wsr(tmp_path / "a.wsr", {"w": tensor.to(torch.int8) if values == "int8" else tensor})
    # log2 of n choose k by Stirling's formula is n H(k / n) less a term of order log n.
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9)) * n * k / 8
    ideal = entropy + n * k // 10 * bytes_each
    assert (tmp_path / "a.wsr").stat().st_size <= limit * ideal


def test_names_shapes_and_types_come_back(tmp_path: Path) -> None:
    sparse = torch.randn(8, 6, 3, 3) * (torch.rand(8, 6, 3, 3) < 0.2)
    tensors = {
        "conv.weight": sparse,
        "half": (torch.randn(9, 5) * (torch.rand(9, 5) < 0.3)).half(),
        "bias": torch.randn(7),
        "count": torch.tensor(5),
        "flags": torch.tensor([True, False]),
        "none": torch.zeros(0, 4),
        "bytes": torch.randint(-9, 9, (3, 4), dtype=torch.int8),
    }
    write_wsr(tmp_path / "a.wsr", tensors, metadata={"a": [1, "b"]})
    found, metadata = read_wsr(tmp_path / "a.wsr")
    assert metadata == {"a": [1, "b"]}
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wsr"
    write_wsr(path, {"w": torch.eye(20)})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError):
            read_wsr(path)
    for length in (0, 5, 16, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_wsr(path)


def test_foreign_files_and_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wsr"
    torch.save({"w": torch.eye(3)}, path)
    with pytest.raises(UserError, match="file; make one"):
        read_wsr(path)
    with pytest.raises(UserError, match="cannot read"):
        read_wsr(tmp_path / "missing.wsr")
    with pytest.raises(UserError, match="fp32 or bf16"):
        write_wsr(path, {}, values="int4")
    with pytest.raises(UserError, match="cannot store"):
        write_wsr(path, {"z": torch.zeros(2, dtype=torch.complex64)})
