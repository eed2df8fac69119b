"""The runs of benchmarks/vector_training.py, in order of importance, each with its settings and test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CURVE", "RUNS", "STARTS", "Run"]

CURVE = (0.0, 0.25, 0.5, 0.75)
"""Shares of the start's weights in the measured ones; 1 is the untouched model."""
MATRYOSHKA = (384, 256, 128, 64)
_CUT = (None, 256, 128, 64)

ENGLISH = ("wikiqa", "dl19", "nfcorpus", "scifact")
CHINESE = ("cepilepsyqa", "cmrc", "cmedir", "xquad-zh")

STARTS: dict[str, dict[str, Any]] = {
    "mini embedding": {"checkpoint": "mini", "kind": "embedding", "max_length": 256},
    "mini colbert": {"checkpoint": "mini", "kind": "colbert", "max_length": 256},
    "mini cross-encoder": {"checkpoint": "mini", "kind": "cross-encoder", "max_length": 256},
    "multilingual embedding": {"checkpoint": "mini-multilingual", "kind": "embedding", "max_length": 256},
    "multilingual colbert": {"checkpoint": "mini-multilingual", "kind": "colbert", "max_length": 256},
    "multilingual cross-encoder": {"checkpoint": "mini-multilingual", "kind": "cross-encoder", "max_length": 256},
}
"""``model`` settings of each start. A cross-encoder gets a new score head."""

# Tokens that training and encoding compute in a minute on two cores; only for estimates. The multilingual model has
# twice the layers.
_TRAINED = {"mini": 100_000, "mini-multilingual": 50_000}
_ENCODED = {"mini": 200_000, "mini-multilingual": 100_000}
_SET_TOKENS = {
    "wikiqa": 75_000, "dl19": 350_000, "nfcorpus": 900_000, "scifact": 1_300_000, "cepilepsyqa": 400_000,
    "cmedir": 70_000, "cmrc": 300_000, "xquad-zh": 80_000,
}  # fmt: skip
_PAIR_TOKENS = {"wikiqa": 110_000, "dl19": 400_000, "cepilepsyqa": 840_000, "cmedir": 100_000}


@dataclass(frozen=True)
class Run:
    """One way to train, with one or several seeds.

    Attributes:
        name: key of the run in the results, and its words in the tables.
        start: key of `STARTS`.
        data: training set.
        tokens: of one epoch, about; only for estimates.
        settings: ``objective``, ``data`` and ``train`` settings, as in a configuration file.
        model: further ``model`` settings.
        seeds: numbers of the seeds; more than the first only at shares 0 and 0.5.
        sets: test sets; the first is the one that it is trained for.
        shares: shares of the start's weights that the first seed is measured at.
        widths: at which embeddings are measured on the first set; None is their own width.
        teacher: run whose first seed scores the training rows, or ``mini``; None without a teacher.
        queries: number of queries of a set that are measured; by default all.
    """

    name: str
    start: str
    data: str
    tokens: int
    settings: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1,)
    sets: tuple[str, ...] = ENGLISH
    shares: tuple[float, ...] = (0.0, 0.5)
    widths: tuple[int | None, ...] = (None,)
    teacher: str | None = None
    queries: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``embedding``, ``colbert`` or ``cross-encoder``."""
        return str(STARTS[self.start]["kind"])

    def shares_of(self, seed: int) -> tuple[float, ...]:
        """The shares that a seed is measured at."""
        return self.shares if seed == self.seeds[0] else tuple(share for share in self.shares if share in (0.0, 0.5))

    def widths_on(self, name: str) -> tuple[int | None, ...]:
        """The widths that are measured on a set."""
        return self.widths if name == self.sets[0] else (None,)

    def minutes_to_train(self) -> float:
        """An estimate."""
        return self.tokens * float(self.settings["train"].get("epochs", 1)) / _TRAINED[STARTS[self.start]["checkpoint"]]

    def minutes_to_measure(self, name: str) -> float:
        """An estimate for one set and share."""
        pairs = self.kind == "cross-encoder"
        tokens = (_PAIR_TOKENS if pairs else _SET_TOKENS)[name]
        return tokens / _ENCODED[STARTS[self.start]["checkpoint"]]


# Without a dev set a checkpoint is saved every twenty steps, from which an interrupted run continues.
# A step that fits one pass is computed once: a quarter less work, for 10 GB with 64 queries of NFCorpus.
_ONE_PASS = {"token_budget": 32768}
_ONE_EPOCH = {"epochs": 1, "eval_steps": 20, **_ONE_PASS}
_WIKIQA = {"data": {"group_size": 6}, "train": {"epochs": 3, "learning_rate": 5e-5, "batch_size": 32, **_ONE_PASS}}
_NFCORPUS = {"data": {"group_size": 2}, "train": {**_ONE_EPOCH, "learning_rate": 5e-5, "batch_size": 64}}
_CEPILEPSY = {"data": {"group_size": 3}, "train": {**_ONE_EPOCH, "learning_rate": 5e-5, "batch_size": 32}}
_CMRC = {"data": {"group_size": 2}, "train": {**_ONE_EPOCH, "learning_rate": 3e-5, "batch_size": 32}}
_CMEDIR = {"data": {"group_size": 3, "label_range": [0, 4]},
           "train": {**_ONE_EPOCH, "learning_rate": 3e-5, "batch_size": 64}}  # fmt: skip
_NEAR = {"teacher_temperature": 0.05}
_THREE = (1, 2, 3)

RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run("cepilepsyqa colbert", "multilingual colbert", "cepilepsyqa", 900_000,
            {"objective": "infonce", **_CEPILEPSY}, seeds=_THREE, sets=CHINESE, shares=CURVE),
        Run("cepilepsyqa embedding", "multilingual embedding", "cepilepsyqa", 900_000,
            {"objective": "infonce", **_CEPILEPSY}, seeds=_THREE, sets=CHINESE, shares=CURVE),
        Run("wikiqa colbert", "mini colbert", "wikiqa", 180_000, {"objective": "infonce", **_WIKIQA},
            seeds=_THREE, shares=CURVE),
        Run("nfcorpus embedding", "mini embedding", "nfcorpus", 1_200_000, {"objective": "infonce", **_NFCORPUS},
            seeds=_THREE, sets=("nfcorpus", "scifact", "dl19", "wikiqa"), shares=CURVE, widths=_CUT),
        Run("cepilepsyqa cross-encoder", "multilingual cross-encoder", "cepilepsyqa", 950_000,
            {"objective": "softmax_ce", **_CEPILEPSY}, sets=("cepilepsyqa", "cmedir"), shares=(0.0,),
            queries={"cepilepsyqa": 80}),
        Run("nfcorpus matryoshka", "mini embedding", "nfcorpus", 1_200_000, {"objective": "infonce", **_NFCORPUS},
            model={"matryoshka": list(MATRYOSHKA)}, sets=("nfcorpus",), shares=(0.0,), widths=_CUT),
        Run("nfcorpus width 64 alone", "mini embedding", "nfcorpus", 1_200_000, {"objective": "infonce", **_NFCORPUS},
            model={"matryoshka": [64]}, sets=("nfcorpus",), shares=(0.0,), widths=(64,)),
        Run("nfcorpus width 256 alone", "mini embedding", "nfcorpus", 1_200_000, {"objective": "infonce", **_NFCORPUS},
            model={"matryoshka": [256]}, sets=("nfcorpus",), shares=(0.0,), widths=(256,)),
        Run("wikiqa cross-encoder", "mini cross-encoder", "wikiqa", 200_000, {"objective": "softmax_ce", **_WIKIQA},
            sets=("wikiqa", "dl19"), shares=(0.0,)),
        Run("wikiqa embedding", "mini embedding", "wikiqa", 180_000, {"objective": "infonce", **_WIKIQA},
            sets=("wikiqa", "dl19")),
        Run("wikiqa embedding, kl from the cross-encoder", "mini embedding", "wikiqa", 180_000,
            {"objective": ["infonce", {"name": "kl"}], **_WIKIQA}, sets=("wikiqa", "dl19"),
            teacher="wikiqa cross-encoder"),
        Run("wikiqa embedding, margin_mse from the cross-encoder", "mini embedding", "wikiqa", 180_000,
            {"objective": ["infonce", {"name": "margin_mse", "temperature": 0.05}], **_WIKIQA},
            sets=("wikiqa", "dl19"), teacher="wikiqa cross-encoder"),
        Run("wikiqa embedding, kl from mini", "mini embedding", "wikiqa", 180_000,
            {"objective": ["infonce", {"name": "kl", "options": _NEAR}], **_WIKIQA}, sets=("wikiqa", "dl19"),
            teacher="mini"),
        Run("cmrc embedding", "multilingual embedding", "cmrc", 500_000, {"objective": "infonce", **_CMRC},
            sets=("cmrc", "xquad-zh", "cepilepsyqa", "cmedir")),
        Run("cmedir embedding", "multilingual embedding", "cmedir", 170_000,
            {"objective": "infonce", **_CMEDIR}, sets=("cmedir", "xquad-zh", "cepilepsyqa", "cmrc")),
    )
}  # fmt: skip
"""Runs by name, the most important first."""
