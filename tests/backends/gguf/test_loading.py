"""Loading by path, folder, name and hub id; and files that are refused, each with a message about the file."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

import rerank_core
from helpers.gguf.files import write_gguf
from helpers.hubs.hub_cache import snapshot
from helpers.models.causal import SPEC, load
from helpers.plain import assert_close
from rerank_core import CheckpointError, MissingDependencyError, UnknownModelError
from rerank_core.backends.config_checks import check_sizes
from rerank_core.backends.gguf.folder import prepared
from rerank_core.cli import app
from rerank_core.spec.gguf.header import read_header

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "大熊猫吃竹子")]


@pytest.fixture(scope="module")
def qwen(family: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model without a score head."""
    return write_gguf(family("qwen2"), tmp_path_factory.mktemp("qwen") / "qwen.gguf")


@pytest.fixture(scope="module")
def bert(family: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder."""
    return write_gguf(family("bert"), tmp_path_factory.mktemp("bert") / "bert.gguf", rank=True)


# ---------------------------------------------------------------------- sources
def test_its_content_identifies_it(bert: Path, tmp_path: Path) -> None:
    """Not its name or folder, and not what is beside it; a changed byte of the weights does."""
    first = rerank_core.load(bert, device="cpu").fingerprint
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(bert.read_bytes())
    assert rerank_core.load(moved, device="cpu").fingerprint == rerank_core.load(tmp_path, device="cpu").fingerprint
    assert rerank_core.load(moved, device="cpu").fingerprint == first
    data = bytearray(bert.read_bytes())
    data[-5] ^= 1
    moved.write_bytes(data)
    assert rerank_core.load(moved, device="cpu").fingerprint != first


def test_a_model_without_a_head_needs_a_name(qwen: Path) -> None:
    """By itself it is refused; under a name it takes that model's template and labels."""
    with pytest.raises(CheckpointError, match=r"without a score head.*checkpoint='.*qwen.gguf'.*'llm:.*qwen.gguf'"):
        rerank_core.load(qwen)
    reranker = rerank_core.load("mxbai-rerank-base-v2", checkpoint=qwen, device="cpu", max_length=1000)
    assert len(reranker.score(PAIRS)) == 2
    assert len(rerank_core.load(f"llm:{qwen}", device="cpu", prompt="{query}\n{doc}").score(PAIRS)) == 2
    with pytest.raises(CheckpointError, match="no chat template"):
        rerank_core.load(f"llm:{qwen}", device="cpu")


def test_the_chat_template_is_the_files(family: Callable[[str], Path], tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    file = write_gguf(family("qwen2"), tmp_path / "m.gguf", metadata={"tokenizer.chat_template": template})
    reranker = rerank_core.load(f"llm:{file}", device="cpu")
    assert reranker.spec.name == "llm-zero-shot"
    assert len(reranker.score(PAIRS)) == 2


def test_messages_name_the_file_and_not_the_temporary_folder(qwen: Path) -> None:
    with pytest.raises(CheckpointError, match="no chat template") as caught:
        rerank_core.load(f"llm:{qwen}", device="cpu")
    assert str(caught.value).startswith(f"{qwen.resolve()} has no chat template")
    assert "rerank-core-gguf-" not in str(caught.value)


def test_a_folder_with_a_template_of_its_own(qwen: Path, family: Callable[[str], Path], tmp_path: Path) -> None:
    """A reranker.json beside the file is followed; with checkpoint= one that contradicts the name is refused."""
    (tmp_path / "m.gguf").write_bytes(qwen.read_bytes())
    plain = rerank_core.ModelSpec(name="mine", template=rerank_core.Template(query="{query}", doc="{doc}\nyes?"),
                                  head=rerank_core.Head.last_token("yes", "no"), max_length=1000)  # fmt: skip
    rerank_core.write_spec(plain, tmp_path)
    reranker = rerank_core.load(tmp_path, device="cpu")
    assert reranker.spec.name == "mine"
    assert_close(load(family("qwen2"), plain).score(PAIRS), reranker.score(PAIRS))
    with pytest.raises(CheckpointError, match="contradicts"):
        rerank_core.load("mxbai-rerank-base-v2", checkpoint=tmp_path)


def test_a_file_of_the_hub(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """owner/name/file.gguf, by itself and as checkpoint=; only that file is needed, at the revision given."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = snapshot(tmp_path, "acme/tiny-GGUF", "a" * 40)
    (folder / "q8").mkdir()
    os.symlink(bert, folder / "q8" / "tiny.gguf")
    expected = rerank_core.load(bert, device="cpu").score(PAIRS)
    name = "acme/tiny-GGUF/q8/tiny.gguf"
    for options in ({}, {"revision": "a" * 40}):
        reranker = rerank_core.load(name, offline=True, device="cpu", **options)
        assert reranker.score(PAIRS) == expected
        assert reranker.spec.checkpoint == name
    named = rerank_core.load("bge-reranker-base", checkpoint=name, offline=True, device="cpu")
    assert named.score(PAIRS) == expected
    with pytest.raises(UnknownModelError, match=r"'acme/tiny-GGUF/other.gguf' was not found in the local cache"):
        rerank_core.load("acme/tiny-GGUF/other.gguf", offline=True)
    with pytest.raises(UnknownModelError, match=r"give one: 'acme/tiny-GGUF/FILE.gguf'"):
        rerank_core.load("acme/tiny-GGUF", offline=True)
    with pytest.raises(CheckpointError, match="at revision 'bbb"):
        rerank_core.load("bge-reranker-base", checkpoint=name, offline=True, revision="b" * 40)


def test_the_temporary_folder_is_removed(bert: Path) -> None:
    """At the end of the process, and not by a forked child."""
    code = (
        "import os, sys; from pathlib import Path; from rerank_core.backends.gguf.folder import prepared\n"
        "folder = prepared(Path(sys.argv[1])); assert prepared(Path(sys.argv[1])) == folder\n"
        "child = os.fork()\nif not child: sys.exit()\n"
        "os.waitpid(child, 0); assert (folder / 'config.json').is_file(); print(folder)"
    )
    done = subprocess.run([sys.executable, "-c", code, bert], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.name == "bert.gguf"
    assert not folder.parent.exists()


def test_without_the_package(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rerank-core\[gguf\]'"):
        rerank_core.load(bert)


# ---------------------------------------------------------------------- files that are refused
@pytest.mark.parametrize(
    ("name", "metadata", "said"),
    [
        ("qwen2", {"qwen2.attention.head_count": [4, 4, 2]}, "whose layers differ"),
        ("qwen2", {"qwen2.block_count": None}, "block_count is None; it must be at least 1"),
        ("qwen2", {"qwen2.block_count": 4}, "the weights have 3 layers"),
        ("qwen2", {"qwen2.embedding_length": 64}, "rows of 32"),
        ("qwen2", {"qwen2.rope.dimension_count": 4}, "rotates a part"),
        ("qwen2", {"qwen2.rope.scaling.type": "dynamic", "qwen2.rope.scaling.factor": 2.0}, "'dynamic' by 2.0"),
        ("qwen2", {"qwen2.logit_scale": 2.0}, "logit_scale is 2.0; this is not read"),
        ("qwen2", {"qwen2.attention.layer_norm_rms_epsilon": "small"}, "must be a number"),
        ("qwen2", {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1]}, "has 1 tokens and"),
        ("gemma3_text", {"gemma3.attention.sliding_window_pattern": [True, False]}, "each of 7 layers"),
        ("bert", {"tokenizer.ggml.model": "gpt2"}, "a model like BERT is 'gpt2'"),
        ("bert", {"bert.attention.layer_norm_epsilon": None, "bert.context_length": 0}, "context_length is 0"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    name: str, metadata: dict[str, Any], said: str, family: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write_gguf(family(name), tmp_path / "m.gguf", rank=name == "bert", metadata=metadata)
    with pytest.raises(CheckpointError, match=said):
        rerank_core.load(file, device="cpu") if name == "bert" else load(file)


def test_an_unknown_architecture_and_an_unknown_tensor(qwen: Path, tmp_path: Path) -> None:
    """Both are named; the same bytes with another name in their place."""
    for old, new, said in (
        (b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0qwen2", b"falco", "architecture 'falco' is not read"),
        (b"blk.1.attn_k.bias", b"blk.1.attn_k.blob", r"'blk.1.attn_k.blob' belongs to no weight of a qwen2 model"),
        (b"blk.1.attn_k.bias", b"blk.9.attn_k.bias", "has more layers|layers"),
    ):
        data = qwen.read_bytes()
        assert data.count(old) == 1
        (tmp_path / "m.gguf").write_bytes(data.replace(old, old[: -len(new)] + new))
        with pytest.raises(CheckpointError, match=said):
            load(tmp_path / "m.gguf")


def test_a_head_of_another_kind_is_refused(family: Callable[[str], Path], tmp_path: Path) -> None:
    labels = {"qwen3.classifier.output_labels": ["yes", "maybe", "no"]}
    for metadata, said in (
        (labels, "has 2 rows; the head of a causal reranker has two"),
        ({"tokenizer.chat_template.rerank": "{query}" * 2000}, "10000 characters are the most"),
        ({"tokenizer.chat_template.rerank": "no fields"}, "it must hold {query} and then {document}"),
        ({"qwen3.classifier.output_labels": ["yes", "surely"]}, "are not two tokens"),
    ):
        file = write_gguf(family("qwen3"), tmp_path / "m.gguf", rank=True, metadata=metadata)
        with pytest.raises(CheckpointError, match=said):
            rerank_core.load(file, device="cpu")


def test_altered_copies_are_typed_errors(bert: Path, tmp_path: Path) -> None:
    """200 copies with bytes of the header or of numbers changed; those that are prepared all the same have sizes that
    the weights bear out."""
    whole, chance, refused = bert.read_bytes(), random.Random(1), 0
    places = (b"bert.block_count", b"tokenizer.ggml.token_type", b"cls.output.weight")
    tracemalloc.start()
    for number in range(200):
        copy = bytearray(whole)
        for _ in range(3):
            place = whole.index(chance.choice(places)) if number % 2 else 0
            copy[chance.randrange(place, place + 900)] = chance.choice((0, 1, 64, 128, 255))
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(copy if number % 5 else copy[: chance.randrange(len(copy))])
        try:
            check_sizes(prepared(file))
        except CheckpointError:
            refused += 1
        file.unlink()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 100
    assert peak < 50e6


def test_numbers_that_are_not_finite_are_refused(family: Callable[[str], Path], tmp_path: Path) -> None:
    """A scale of a quantized block that is NaN."""
    file = write_gguf(family("qwen2"), tmp_path / "m.gguf", "Q8_0")
    place = read_header(file).tensors["blk.0.attn_q.weight"].offset
    data = bytearray(file.read_bytes())
    data[place : place + 2] = b"\xff\x7f"
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load(file, SPEC)


def test_the_command_line_takes_a_file(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("a bear")
    arguments = ["rank", "what is a panda?", str(tmp_path / "docs.txt"), "--model", str(bert), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.count('"rank"') == 1
