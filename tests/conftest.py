import os

# Before torch or ray is imported: one thread per process, a quiet Ray that is nobody else's.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A busy machine is no failure; the same tree passes or fails the same way. To look for new
# examples: `pytest --hypothesis-profile=roaming`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("roaming", deadline=None, max_examples=1000)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`./run_tests.sh --fast` leaves out every test of Ray, as those marked `long`."""
    for item in items:
        if "ray" in item.keywords:
            item.add_marker("long")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One small Ray for all tests that need no Ray of their own."""
    from tests.support.processes import descendants, gone, is_pythons_own
    from ws_learner.config.cluster import ClusterConfig
    from ws_learner.training.ray.session import ray_session

    before = set(descendants(os.getpid()))
    with ray_session(ClusterConfig(workers=4)):
        yield
        below = set(descendants(os.getpid())) - before
        started = sorted(pid for pid in below if not is_pythons_own(pid))
    assert started
    assert gone(started, seconds=120)
