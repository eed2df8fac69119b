"""Writes rows of tools/proof.json: what the real weights of a model have been compared with."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["write_row"]

# Sentences that a row no longer has once its real weights were compared.
_OLD = {
    "en": (
        r"Real weights \(commit [^)]*\):.*?\.(?: (?=[A-Z])|$)",
        r" ?Scores of the real weights are not compared yet\.",
    ),
    "zh": (r"真实权重（commit [^）]*）：[^。]*。", r"尚未比较真实权重的分数。"),
}


def write_row(file: Path, report: Any) -> bool:
    """Give a model level 3, with a sentence about a comparison before those that it has.

    Models that referred to its row keep their own level and sentences.

    Args:
        file: proof.json.
        report: a `verify_model.Report` whose scores agree, of real weights.

    Returns:
        whether the file has a row of this model, which is written.
    """
    rows: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    if report.model not in rows:
        return False
    row = rows[report.model]
    before = rows[row["as"]] if "as" in row else row
    followers = [name for name, other in rows.items() if other.get("as") == report.model]
    if followers:
        rows[followers[0]] = before
        rows.update({name: {"as": followers[0]} for name in followers[1:]})
    new = _sentences(report)
    rows[report.model] = {
        "level": 3,
        **{language: _joined(new[language], before[language], language) for language in new},
    }
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(rows, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, file)
    return True


def _joined(new: str, before: str, language: str) -> str:
    for pattern in _OLD[language]:
        before = re.sub(pattern, "", before)
    return f"{new} {before}".strip() if language == "en" else f"{new}{before}"


def _sentences(report: Any) -> dict[str, str]:
    commit = str(report.commit)[:8]
    en, zh = [], []
    if report.framework is not None:
        count, worst = len(report.pairs), f"{report.difference:.0e}"
        en.append(
            f"scores of {count} pairs equal those of {report.framework} ({report.dtype}, largest difference {worst})"
        )
        zh.append(f"{count} 对文本的分数与 {report.framework} 一致（{report.dtype}，最大差 {worst}）")
    if report.published:
        worst = f"{max(difference for _, difference, _ in report.published):.0e}"
        en.append(f"published scores are met to {worst}")
        zh.append(f"与公布的分数相差不超过 {worst}")
    return {
        "en": f"Real weights (commit {commit}): {'; '.join(en)}.",
        "zh": f"真实权重（commit {commit}）：{'；'.join(zh)}。",
    }
