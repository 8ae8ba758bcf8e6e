"""Settings given in vain are said, one line each; what excludes each other is refused."""

from __future__ import annotations

import pytest

from experiments.cli.build import say_adjusted
from experiments.cli.flags import parse
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.registries import METHODS
from ws_learner.core.errors import UserError

SRSTE = "--ws_method srste --ws_pattern 2:4 --ws_location ff"


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (
            f"{SRSTE} --ws_criterion snip --ws_schedule exp --ws_scope global --mdgf_beta 0.1 "
            "--ws_initial_ratio 0.3 --ws_update_frequency 0.5 --group_lasso_alpha 7",
            "ws_criterion ws_schedule ws_scope mdgf_beta ws_initial_ratio ws_update_frequency "
            "group_lasso_alpha",
        ),
        (
            "--ws_method pattern_lock --ws_pattern 4x1 --ws_criterion snip_momentum "
            "--ws_schedule exp",
            "ws_pattern ws_criterion ws_schedule",
        ),
        ("--ws_pattern 4x1 --ws_criterion snip --ws_criterion_pool sum --ws_schedule exp", ""),
        ("--ws_schedule exp --ws_prune_ratio_exp 2", "ws_prune_ratio_exp"),
        ("--ws_criterion_pool max", "ws_criterion_pool"),
        ("--ws_mask_update_step 7 --ws_update_frequency 1", "ws_mask_update_step"),
        ("--ws_schedule oneshot --ws_mask_update_step 7", "ws_mask_update_step"),
        ("--ws_method movement --movement_score_lr 0.1 --srste_lambda 1", "srste_lambda"),
        ("--ws_method mdgf --mdgf_decay step --mdgf_beta 0.1", "mdgf_beta"),
        ("--ws_method mdgf --mdgf_beta 0.1 --nm_dense_epochs 1", ""),
        ("--ws_method sdgf --mdgf_gradient ste --sdgf_stages 3", "mdgf_gradient"),
        ("--ws_method sdgf --sdgf_mask_decay linear --mdgf_gradient ste", ""),
        ("--learner full-prec --srste_lambda 1", ""),
    ],
)
def test_a_line_for_each(words: str, idle: str, capsys: pytest.CaptureFixture[str]) -> None:
    say_adjusted(parse(words.split()))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unused: ")]
    assert {line.split()[1].strip("`") for line in lines} == set(idle.split())
    assert len(lines) == len(idle.split())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--ws_method srste --ws_pattern 1:8 --ws_location ff --ws_prune_ratio 0.5", "0.875"),
        ("--ws_pattern 1:8@ff+1:4@q,k --ws_prune_ratio 0.875", "0.75, 0.875"),
        ("--ws_method mdgf --mdgf_beta 0.1 --mdgf_zero_at 0.9", "leave one out"),
        ("--ws_method gradual --srste_lambda -3", "--srste_lambda -3: must be 0 or above"),
        ("--mdgf_zero_at 2", "--mdgf_zero_at 2: must be a share in (0, 1]"),
    ],
)
def test_what_is_refused(words: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(words.split())
    assert part in str(caught.value)


def test_a_protocol_may_share_out_another_ratio() -> None:
    words = "--ws_pattern 1:8 --ws_location ff --ws_prune_ratio 0.5 --ws_prune_ratio_prtl uniform"
    assert parse(words.split()).ws.ws_prune_ratio == 0.5


def test_the_table_has_every_method_and_only_settings() -> None:
    fields = set(WeightSparseConfig.__dataclass_fields__)
    assert len(METHODS) >= 8
    assert all(set(method.settings) <= fields for method in METHODS.values())
