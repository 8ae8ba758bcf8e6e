"""NNCF's JSON: the manual's example, every error of its catalogue, scopes in both spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.support.nncf import PARAMS, SEED_JSON, movement, text
from tests.support.tiny_transformers import FAMILIES, FusedBlock, bert
from ws_learner.compat.nncf.reader import is_nncf, parse_nncf, read_nncf
from ws_learner.compat.nncf.scopes import names_of, quantized_layers, select_layers
from ws_learner.core.errors import UserError


def test_the_manuals_example() -> None:
    assert is_nncf(SEED_JSON)
    part = parse_nncf(SEED_JSON).movement
    assert (part.params.warmup_start_epoch, part.params.warmup_end_epoch) == (1, 6)
    assert part.params.importance_regularization_factor == 0.1
    assert part.params.enable_structured_masking is False
    assert [entry.pattern for entry in part.sparse_structure_by_scopes] == [
        "unstructured",
        "64x64",
        "1xchannel",
    ]
    assert part.ignored_scopes == ("{re}.*pooler.*", "{re}.*classifier.*")


def test_its_other_line_is_an_error_with_a_remedy() -> None:
    whole = SEED_JSON.replace("    },\n  ]", "    },\n    ...(other algorithms)\n  ]")
    with pytest.raises(UserError, match="leave its line"):
        parse_nncf(whole)


def test_defaults_aliases_comments_and_a_single_algorithm() -> None:
    one = text(movement(params={"initial_importance_threshold": -0.1}))
    commented = "// a file\n" + one.replace("[{", "{").replace("}]", "}") + "/* end */"
    params = parse_nncf(commented).movement.params
    assert (params.power, params.final_importance_threshold, params.steps_per_epoch) == (3, 0, None)
    assert params.init_importance_threshold == -0.1
    other = parse_nncf(text(movement(params={"init_importance_threshold": -0.1})))
    assert other.movement.params == params
    assert not params.enable_structured_masking
    url = text(movement(ignored_scopes="{re}http://x"), log_dir="a,}b")
    assert parse_nncf(url).movement.ignored_scopes == ("{re}http://x",)
    assert parse_nncf(url).log_dir == "a,}b"


def entry(**keys: Any) -> str:
    return text(movement(sparse_structure_by_scopes=[{"target_scopes": "x"} | keys]))


def without(name: str) -> str:
    return text(movement() | {"params": {k: v for k, v in PARAMS.items() if k != name}})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((without(name), f"params.{name}.*required in config") for name in PARAMS),
        (text(movement(params={"warmup_start_epoch": 0.5})), "must be >= 1 to enable the auto"),
        (
            text(movement(params={"warmup_end_epoch": 1})),
            "0 <= warmup_start_epoch < warmup_end_epoch",
        ),
        (
            text(movement(params={"importance_regularization_factor": -1})),
            "should not be a negative number",
        ),
        (text(movement(params={"power": 0})), "power 0"),
        (text(movement(params={"power": "3"})), r"params\.power: '3' is wrong"),
        (text(movement(params={"steps_per_epoch": 0.5})), r"params\.steps_per_epoch"),
        (entry(mode="fine", sparse_factors=[2, 2]), r"\[1, 1\] or unspecified"),
        (entry(mode="fine", axis=0), "not expect specified `axis`"),
        (entry(mode="block", axis=0, sparse_factors=[2, 2]), "not expect specified `axis`"),
        (entry(mode="block"), "Missing `sparse_factors`"),
        (entry(mode="block", sparse_factors=[2]), "expects tuple of two"),
        (entry(mode="per_dim"), "Missing `axis`"),
        (entry(mode="per_dim", axis=0, sparse_factors=[1, 1]), "not expect specified `sparse_fac"),
        (entry(mode="per_dim", axis=-1), "Invalid axis id"),
        (entry(mode="rows"), "mode: 'rows' is wrong"),
        (
            text(movement(sparse_structure_by_scopes=[{"mode": "fine"}])),
            "Missing `target_scopes`",
        ),
        (text(movement(), movement()), "Multiple algorithm configurations"),
        (text({"algorithm": "filter_pruning"}), "'filter_pruning' is not supported"),
        (text({"algorithm": "knowledge_distillation", "type": "mse"}), "movement_sparsity is miss"),
        (
            text(
                movement(),
                {"algorithm": "knowledge_distillation", "type": "mse", "temperature": 2},
            ),
            "belongs to type softmax",
        ),
        (
            text(
                movement(),
                {
                    "algorithm": "quantization",
                    "initializer": {
                        "range": {"params": {"min_percentile": 99, "max_percentile": 1}}
                    },
                },
            ),
            r"range\.params: min_percentile 99: must lie below max_percentile \(1\)",
        ),
        (
            text(movement(), {"algorithm": "quantization", "weights": {"bits": 4}}),
            r"weights\.bits: 4 is wrong",
        ),
        (
            text(movement(), {"algorithm": "quantization", "scope_overrides": {}}),
            "scope_overrides: unknown or not supported",
        ),
        (text(movement(ignored_scope="x")), "did you mean ignored_scopes"),
        (text(movement(params={"warmup_stop_epoch": 1})), "did you mean warmup_st"),
        ('{"compression": []}', "movement_sparsity is missing"),
        ('{"compression": [}', "not JSON"),
        ('{"compression": [], "compression": []}', "given twice"),
        ('["compression"]', "must be a table"),
    ],
)
def test_every_mistake_names_its_field(content: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_nncf(content)


def test_all_mistakes_are_told_at_once() -> None:
    content = text(
        movement(
            params={"power": -1, "importance_regularization_factor": -2},
            sparse_structure_by_scopes=[{"mode": "block", "target_scopes": "a"}],
            ignored=3,
        )
    )
    with pytest.raises(UserError) as caught:
        parse_nncf(content)
    lines = str(caught.value)
    for words in ("power -1", "negative number", "`sparse_factors`", "compression[0].ignored:"):
        assert words in lines


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        read_nncf(tmp_path / "none.json")


SCOPE = (
    "BertForSequenceClassification/BertModel[bert]/BertEncoder[encoder]/ModuleList[layer]/"
    "BertLayer[0]/BertAttention[attention]/BertSelfAttention[self]/NNCFLinear[query]/linear_0"
)


def test_a_layer_answers_to_its_name_and_to_nncfs() -> None:
    model, _ = bert()
    known = names_of(model)
    names = known["bert.encoder.layer.0.attention.self.query"]
    assert SCOPE in names
    for scopes in ([SCOPE], ["bert.encoder.layer.0.attention.self.query"], ["{re}Layer.0.*query"]):
        conf = parse_nncf(text(movement(target_scopes=scopes)))
        assert list(select_layers(model, conf)) == [
            "bert.encoder.layer.0.attention.self.query.weight"
        ]


def test_a_subclass_answers_to_its_base_classes_names() -> None:
    class Own(transformers.BertForSequenceClassification):  # type: ignore[misc]
        """As an experiment may wrap it."""

    model = Own(bert()[0].config)
    scope = "BertForSequenceClassification/NNCFLinear[classifier]/linear_0"
    conf = parse_nncf(text(movement(target_scopes=[scope])))
    assert list(select_layers(model, conf)) == ["classifier.weight"]


def test_ignored_wins_and_layers_without_an_entry_are_fine() -> None:
    model, _ = bert()
    small = SEED_JSON.replace("[64, 64]", "[6, 6]")
    chosen = select_layers(model, parse_nncf(small))
    assert not any("pooler" in name or "classifier" in name for name in chosen)
    patterns = {name.split("layer.1.")[1]: kind for name, kind in chosen.items() if "r.1." in name}
    assert patterns == {
        "attention.self.query.weight": "6x6",
        "attention.self.key.weight": "6x6",
        "attention.self.value.weight": "6x6",
        "attention.output.dense.weight": "6x6",
        "intermediate.dense.weight": "1xchannel",
        "output.dense.weight": "unstructured",
    }


def test_top_level_scopes_join_in() -> None:
    model, _ = bert()
    conf = parse_nncf(
        text(
            movement(ignored_scopes="{re}layer.1", target_scopes="{re}attention"),
            ignored_scopes=["{re}attention"],
            target_scopes=["{re}query"],
        )
    )
    with pytest.raises(UserError, match="No sparsifiable layer"):
        select_layers(model, conf)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ignored_scopes": ["{re}nowhere"]}, "No match has been found.*scope definitions"),
        ({"target_scopes": ["{re}nowhere"]}, "target_scopes '{re}nowhere'"),
        ({"ignored_scopes": ["{re}("]}, "is no regular expression"),
        ({"ignored_scopes": ["{re}."]}, "No sparsifiable layer found"),
        (
            {
                "sparse_structure_by_scopes": [
                    {"mode": "fine", "target_scopes": "{re}query"},
                    {"mode": "fine", "target_scopes": "{re}self"},
                ]
            },
            "is matched by multiple items",
        ),
    ],
)
def test_scopes_that_do_not_fit(changes: dict[str, Any], words: str) -> None:
    model, _ = bert()
    with pytest.raises(UserError, match=words):
        select_layers(model, parse_nncf(text(movement(**changes))))


def test_unknown_scopes_pass_if_told_so_and_frozen_layers_do_not() -> None:
    model, _ = bert()
    conf = parse_nncf(text(movement(ignored_scopes=["{re}nowhere"], validate_scopes=False)))
    assert len(select_layers(model, conf)) == 14
    model.get_submodule("bert.embeddings").requires_grad_(False)
    assert len(select_layers(model, conf)) == 14  # nothing there is sparsified anyway
    model.get_submodule("bert.encoder.layer.1").requires_grad_(False)
    with pytest.raises(UserError, match="Frozen layers are not allowed"):
        select_layers(model, conf)


def test_only_linear_layers_are_taken() -> None:
    model, _ = FAMILIES["wav2vec2"]()
    chosen = select_layers(model, parse_nncf(text(movement())))
    assert all(model.get_parameter(name).dim() == 2 for name in chosen)
    assert "mlp.fc1.weight" in select_layers(FusedBlock(), parse_nncf(text(movement())))


def test_quantisation_leaves_out_what_is_ignored() -> None:
    quantization = {
        "algorithm": "quantization",
        "preset": "mixed",
        "overflow_fix": "enable",
        "initializer": {
            "range": {
                "num_init_samples": 32,
                "type": "percentile",
                "params": {"min_percentile": 0.01, "max_percentile": 99.99},
            }
        },
        "ignored_scopes": ["{re}.*__add___[0-1]", "{re}classifier"],
    }
    conf = parse_nncf(text(movement(), quantization))
    model, _ = bert()
    assert conf.quantization is not None
    assert not conf.quantization.symmetric_activations
    assert len(quantized_layers(model, conf, conf.quantization)) == 13
