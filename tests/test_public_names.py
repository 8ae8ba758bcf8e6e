import subprocess
import sys

import pytest

import ws_learner


@pytest.mark.parametrize("name", ws_learner.__all__)
def test_every_public_name_is_there_under_its_own_name(name):
    found = getattr(ws_learner, name)
    assert found.__name__.rsplit(".", 1)[-1] == name


def test_names_are_listed_and_unknown_ones_refused():
    assert dir(ws_learner) == sorted(ws_learner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = ws_learner.prun


def test_the_version_is_that_of_the_installed_package():
    assert ws_learner.__version__ == "unknown" or ws_learner.__version__[0].isdigit()


def test_importing_the_package_loads_no_torch():
    code = "import sys, ws_learner; print(sorted({'torch', 'ray', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
