"""Compare a model's scores with those of its original framework, computed here, and with published scores.

    python tools/verify_model.py bge-reranker-base                    # downloads it; HF_ENDPOINT may name a mirror
    python tools/verify_model.py bge-reranker-base --checkpoint DIR   # or modelscope:owner/name
    python tools/verify_model.py ./folder --json                      # a folder or hub id that has no name

Pairs in English and Chinese are scored: short ones, a document longer than a row (read in its first window, as the
frameworks cut it) and an empty one. Published scores are those of published_scores.json here and in the folder that
RERANK_DATA names. The exit code is 0 where all scores agree, 1 where one differs, and 2 where there was nothing to
compare with.

Where a registered model was downloaded from the hub or an https mirror at its pinned revision, and all scores agree,
its row in tools/proof.json becomes level 3; `make fix` then writes docs/proof.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import published
import references
from proof_rows import write_row

import rerank_core
from rerank_core import RerankError, UnknownModelError
from rerank_core.backends.locate import locate
from rerank_core.plugins import registry

__all__ = ["Report", "verify"]

_LIMIT = 512  # tokens of a row at most: enough to be exceeded, and few for a model of 8 billion weights on a CPU
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.05}
PARAGRAPHS = {
    "en": "The giant panda eats almost nothing but bamboo: leaves, stems and shoots. It spends half of the day on it. ",
    "zh": "大熊猫几乎只吃竹子：竹叶、竹茎和竹笋。它每天有一半的时间在进食，其余时间大多在睡觉。",
}
QUERIES = {"en": "What do giant pandas eat?", "zh": "大熊猫吃什么？"}
OTHERS = {"en": "The council votes on parking fees, 2026.", "zh": "市议会将于周二表决停车费（2026年）。"}


@dataclass
class Report:
    """What was compared.

    Attributes:
        model: name, or the folder or id that was given.
        checkpoint: hub id of the files.
        commit: their commit on the hub; None for other files.
        pinned: whether a registered model's files came from its hub or an https mirror, at its pinned revision.
        framework: name and version; None where there is none.
        reason: why there is none, or why pairs were left out.
        pairs: of each pair a label, our score and theirs.
        difference: the largest one, relative to scores above 1; None without a framework.
        published: of each publication the source, the largest difference and the tolerance.
    """

    model: str
    checkpoint: str
    commit: str | None
    pinned: bool
    dtype: str
    tolerance: float
    framework: str | None = None
    reason: str = ""
    pairs: list[tuple[str, float, float]] = field(default_factory=list)
    difference: float | None = None
    published: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare with."""
        return self.framework is not None or bool(self.published)

    @property
    def ok(self) -> bool:
        """Whether every score agrees."""
        near = self.difference is None or self.difference <= self.tolerance
        return self.compared and near and all(found <= allowed for _, found, allowed in self.published)


def texts(limit: int) -> dict[str, tuple[str, str]]:
    """The pairs by label; a long document has more than ``limit`` tokens of any tokenizer."""
    pairs = {}
    for language, paragraph in PARAGRAPHS.items():
        query, other = QUERIES[language], OTHERS[language]
        documents = {"relevant": paragraph.strip(), "other": other, "long": paragraph * (limit // 10 + 2), "empty": ""}
        pairs.update({f"{language}, {kind}": (query, document) for kind, document in documents.items()})
    return {**pairs, "en, zh": (QUERIES["en"], PARAGRAPHS["zh"]), "zh, en": (QUERIES["zh"], PARAGRAPHS["en"])}


def verify(
    model: str,
    checkpoint: str | None = None,
    *,
    dtype: str = "float32",
    tolerance: float | None = None,
    remote_code: bool = False,
    scores: Sequence[Path] | None = None,
) -> Report:
    """Load a model, score the pairs, and compare.

    Args:
        scores: files of published scores; by default those here and in RERANK_DATA.

    Raises:
        RerankError: the model cannot be loaded.
    """
    named = _named(model)
    limit = min(_LIMIT, named.max_length if named is not None else _LIMIT)
    pairs = texts(limit)
    given: dict[str, Any] = {"checkpoint": checkpoint, "dtype": dtype, "device": "cpu"}
    reranker = rerank_core.load(model, max_length=limit, longdoc="firstp", **given)
    ours = dict(zip(pairs, reranker.score(list(pairs.values())), strict=True))
    spec, options = reranker.spec, reranker.options
    folder = locate(spec, options)
    del reranker
    commit = folder.name if folder.parent.name == "snapshots" and len(folder.name) == 40 else None
    report = Report(
        model=model if named is None else named.name,
        checkpoint=options.checkpoint or spec.checkpoint,
        commit=commit,
        pinned=named is not None and checkpoint is None and commit is not None and _is_hub()
        and named.revision in (None, commit),
        dtype=dtype,
        tolerance=_TOLERANCE[dtype] if tolerance is None else tolerance,
    )  # fmt: skip
    gc.collect()  # a large model is in memory once
    if named is not None:
        files = published.files_of(os.environ.get("RERANK_DATA")) if scores is None else scores
        report.published = _published(named.name, given, files)
    try:
        reference = references.reference_of(folder, spec, options.model, limit, dtype, remote_code=remote_code)
    except references.NoReferenceError as error:
        report.reason = str(error)
        return report
    report.framework = reference.framework
    if not reference.cuts_documents:
        report.reason = "long documents are left out: the original cuts the query, which comes after them"
        pairs = {label: pair for label, pair in pairs.items() if "long" not in label}
    report.pairs = [(label, ours[label], reference.score(*pair)) for label, pair in pairs.items()]
    report.difference = max(abs(mine - theirs) / max(1.0, abs(theirs)) for _, mine, theirs in report.pairs)
    return report


def _named(model: str) -> rerank_core.ModelSpec | None:
    """The registered model of a name or hub id."""
    known = registry.default()
    if known.directory(model) is not None:
        return None
    try:
        return known.named(model)
    except UnknownModelError:
        return None


def _is_hub() -> bool:
    """Whether downloads come over https, as those of the hub and of its mirrors do."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT).startswith("https://")


def _published(name: str, given: dict[str, Any], files: Sequence[Path]) -> list[tuple[str, float, float]]:
    """The published scores of a model beside ours."""
    found = []
    for entry in published.published(files):
        if entry.model == name:
            reranker = rerank_core.load(name, **{**given, **entry.options})
            difference = published.largest_difference(entry, reranker.score(entry.pairs, **entry.call))
            found.append((entry.source, difference, entry.tolerance))
    return found


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name from `rerank models`, a hub id, modelscope:owner/name or a folder")
    parser.add_argument("--checkpoint", help="a folder, hub id or modelscope:owner/name with the model's files")
    parser.add_argument("--dtype", choices=list(_TOLERANCE), default="float32")
    parser.add_argument("--tolerance", type=float, help="largest difference, relative to scores above 1")
    parser.add_argument("--remote-code", action="store_true", help="let the original run code of its repository")
    parser.add_argument("--published", type=Path, action="append", help="a file of published scores; repeatable")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--proof", type=Path, default=Path(__file__).with_name("proof.json"), help="file of the rows")
    asked = parser.parse_args()
    try:
        report = verify(
            asked.model, asked.checkpoint, dtype=asked.dtype, tolerance=asked.tolerance,
            remote_code=asked.remote_code, scores=asked.published,
        )  # fmt: skip
    except RerankError as error:
        print(error, file=sys.stderr)
        return 2
    written = report.ok and report.pinned and write_row(asked.proof, report)
    if asked.json:
        print(json.dumps({"schema_version": 1, **asdict(report), "ok": report.ok, "row_written": written}))
    else:
        _show(report, asked.proof if written else None)
    return 0 if report.ok else 1 if report.compared else 2


def _show(report: Report, written: Path | None) -> None:
    at = f" at {report.commit}" if report.commit else ""
    print(f"{report.model} ({report.checkpoint}{at}), {report.dtype}")
    if report.framework is None:
        print(f"not compared with an original framework: {report.reason}")
    else:
        print(f"{'pair':14}{'rerank-core':>14}{report.framework:>30}{'difference':>14}")
        for label, ours, theirs in report.pairs:
            print(f"{label:14}{ours:14.6f}{theirs:30.6f}{abs(ours - theirs):14.1e}")
        if report.reason:
            print(report.reason)
        print(
            f"largest difference {report.difference:.1e}, relative to scores above 1; allowed: {report.tolerance:.0e}"
        )
    for source, difference, tolerance in report.published:
        print(f"published in {source}: largest difference {difference:.1e}; allowed: {tolerance:.0e}")
    print("equal" if report.ok else "different" if report.compared else "nothing to compare with")
    if written is not None:
        print(f"{written}: level 3; `make fix` writes it into the documents")
    elif report.ok and not report.pinned:
        print(
            "the table of proofs is as it was: these files are not a download of a named model at its pinned revision"
        )


if __name__ == "__main__":
    sys.exit(main())
