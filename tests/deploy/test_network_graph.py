"""Recorded forward passes against the networks themselves, and what a file may not say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr, write_wsr
from ws_learner.deploy.runtime.graph_network import rebuild_graph
from ws_learner.deploy.runtime.network_graph import record_graph

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Residual(nn.Module):
    """Convolutions with batch norm around a sum, strides, groups, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.deep = nn.Conv2d(8, 8, 3, padding="same", groups=4)
        self.down = nn.Conv2d(8, 12, (3, 1), stride=2, dilation=(2, 1))
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = functional.silu(self.down(x + self.deep(x)))
        out: Tensor = self.head(self.drop(x.mean((2, 3))))
        return out


class Sentences(nn.Module):
    """Embedding, attention and feed-forward; padding is 0; the output layer is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 40, bias=False)
        self.out.weight = self.words.weight

    def forward(self, ids: Tensor, kinds: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(self.words(ids), src_key_padding_mask=ids == 0)
        return {"hidden": hidden * kinds[..., None], "scores": self.out(hidden[:, 0])}


class Layer(nn.Module):
    """An encoder layer with projections of its own, as BERT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16, eps=1e-3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (2, 8)).transpose(1, 2)

        parts = (heads(layer(x)) for layer in (self.q, self.k, self.v))
        seen = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        x = self.first(x + self.o(seen.transpose(1, 2).flatten(2)))
        out: Tensor = self.second(x + self.down(functional.gelu(self.up(x))))
        return out


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(40, 16), nn.ModuleList(Layer() for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x, mask = self.words(ids), (ids != 0)[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return x.mean(1)


def through_json(plain: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
    return found


@pytest.mark.long
def test_a_convolutional_network_of_any_batch_size() -> None:
    torch.manual_seed(0)
    model = Residual()
    for x in (torch.randn(4, 3, 8, 8), torch.randn(2, 3, 8, 8)):
        model(x)  # statistics of batch norm
    model.eval()
    plain, recorded = record_graph(model.train(), torch.randn(1, 3, 8, 8))
    assert model.training
    again = rebuild_graph(through_json(plain))
    assert recorded.state_dict().keys() == again.state_dict().keys()
    again.load_state_dict(model.state_dict(), strict=False)
    assert set(plain["layers"]) == {"stem.0", "down", "head"}  # grouped ones have no kernels
    for batch in (1, 3):
        x = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            assert torch.equal(again(x), model.eval()(x))


@pytest.mark.long
def test_sentences_of_any_length_by_keywords_with_a_shared_weight() -> None:
    torch.manual_seed(0)
    model = Sentences().eval()

    def batch(rows: int, words: int) -> dict[str, Tensor]:
        ids = torch.randint(1, 40, (rows, words))
        ids[:, -2:] = 0
        return {"ids": ids, "kinds": torch.ones(rows, words)}

    # `kinds` are floats: their length is the example's, so other lengths need whole numbers.
    example = batch(2, 9) | {"kinds": torch.ones(2, 9, dtype=torch.int64)}
    plain, again = record_graph(model, example)
    assert "out" not in plain["layers"]  # the embedding reads its weight, too
    assert {"encoder.layers.0.linear1", "encoder.layers.1.linear2"} <= set(plain["layers"])
    for rows, words in ((2, 9), (3, 6)):
        given = batch(rows, words) | {"kinds": torch.ones(rows, words, dtype=torch.int64)}
        with torch.no_grad():
            wanted = copy.deepcopy(model).train(False)(**given)
            hidden, scores = again(*given.values())
        torch.testing.assert_close(hidden, wanted["hidden"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores, wanted["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_encoder_layers_stay_modules_that_can_be_replaced_as_a_whole() -> None:
    torch.manual_seed(0)
    model = Encoder().eval()
    plain, _ = record_graph(model, torch.randint(1, 40, (2, 7)))
    assert set(plain["parts"]) == {"layers.0", "layers.1"}
    again = rebuild_graph(through_json(plain))
    again.load_state_dict(model.state_dict())  # all names are the network's own
    ids = torch.randint(1, 40, (3, 9))
    ids[:, -3:] = 0
    with torch.no_grad():
        torch.testing.assert_close(again(ids), model(ids), rtol=1e-5, atol=1e-6)
    layer = again.get_submodule("layers.1")
    kinds = [type(part) for part in layer.modules()]
    assert (kinds.count(nn.Linear), kinds.count(nn.LayerNorm)) == (6, 2)
    assert layer.get_submodule("second").eps == 1e-3
    given: list[tuple[Any, ...]] = []
    layer.register_forward_pre_hook(lambda module, places: given.append(places))
    with torch.no_grad():
        again(ids)
    tensors = [x for x in given[0] if isinstance(x, Tensor)]
    assert sorted(tuple(x.shape) for x in tensors) == [(3, 1, 1, 9), (3, 9, 16)]  # mask and x


@pytest.mark.long
def test_a_compiled_file_with_the_graph_needs_no_class(tmp_path: Path) -> None:
    torch.manual_seed(0)

    class Bypass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.second(torch.tanh(self.first(x)))
            return out

    model = pruned(Bypass(), "4x1", 0.8)
    x = torch.randn(16, 64)
    plain, network = record_graph(model, x)
    compiled = compile_sparse(network, x)
    compiled.architecture = plain
    compiled.save(tmp_path / "m.wsr")
    with torch.no_grad():
        torch.testing.assert_close(
            load_sparse(tmp_path / "m.wsr")(x), model(x), rtol=1e-4, atol=1e-5
        )
    tensors, facts = read_wsr(tmp_path / "m.wsr")
    facts["architecture"]["steps"][-1][1] = "aten.from_file.default"
    write_wsr(tmp_path / "m.wsr", tensors, metadata=facts)
    with pytest.raises(UserError, match="cannot be built"):
        load_sparse(tmp_path / "m.wsr")


class ByValue(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


class Drawn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + torch.rand(4)
        return out


@pytest.mark.parametrize(
    ("model", "says"),
    [(ByValue(), "cannot be recorded"), (Drawn(), r"a file cannot hold aten\.rand")],
)
def test_what_a_file_cannot_hold_is_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(UserError, match=says):
        record_graph(model, torch.ones(2, 4))


def spoiled() -> list[dict[str, Any]]:
    """Descriptions that would run other code, read files, or do not fit together."""
    plain, _ = record_graph(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), torch.ones(2, 4))
    evil = '0"); __import__("os").abort(); ("'
    found = []

    def changed(**parts: Any) -> None:
        found.append({**copy.deepcopy(plain), **parts})

    for name in (
        "aten.from_file.default",
        "aten.save.x",
        "os.system",
        "python.exec",
        "aten.add.__init__",
    ):
        changed(steps=[["call", name, [{"value": 0}], {}]])
    changed(steps=[["layer", evil, [{"value": 0}], {}]])
    changed(layers={evil: plain["layers"]["0"]})
    changed(tensors={**plain["tensors"], evil: [[1], "torch.float32", False]})
    changed(tensors={**plain["tensors"], "class": [[1], "torch.float32", False]})
    changed(tensors={**plain["tensors"], "b": [[1], "torch.load", False]})
    changed(outputs=[{"value": 9}])
    changed(outputs=[{"value": True}, {"tensor": "missing"}])
    changed(outputs=[{"device": "meta"}])
    changed(steps=[["call", "aten.add.Tensor", [{"value": 0}], {evil: 1}]])
    changed(steps=[["call", "aten.add.Tensor", [{"value": 0}], {"a.b": 1}]])
    changed(steps=[["eval", "1", [], {}]])
    changed(parts={evil: {"inputs": 1, "steps": [], "outputs": [{"value": 0}]}})
    inner = {"inputs": 1, "steps": plain["steps"], "outputs": [{"value": 0}]}
    changed(parts={"0": inner})  # its steps name a layer that is not inside
    changed(steps=[["part", "0", [{"value": 0}], {}]])
    changed(layers={"0": {"class": "Popen", "bias": True}})
    return found


def test_descriptions_that_say_anything_else_are_refused() -> None:
    for plain in spoiled():
        with pytest.raises((ValueError, KeyError, TypeError)):
            rebuild_graph(plain)
