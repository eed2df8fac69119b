"""The objectives by name, with the targets they read and their papers.

| name | reads | paper |
|---|---|---|
| `bce` | labels, or a teacher's scores | Nogueira & Cho 2019; soft targets: Hinton et al. 2015 |
| `cosent` | labels, or a teacher's scores; the scores of the whole step | Huang et al. 2024 |
| `embed_distill` | a teacher's vectors of the same width | Kim et al. 2023 (EmbedDistill) |
| `infonce` | labels; the texts of the whole step | van den Oord et al. 2018; Karpukhin et al., EMNLP 2020 |
| `kl` | a teacher's scores, 2 documents | Hinton et al. 2015 |
| `lambda` | labels, or a teacher's order, 2 documents | Wang et al., CIKM 2018 (NDCG-Loss2++) |
| `listnet` | labels, or a teacher's order, 2 documents | Cao et al., ICML 2007 |
| `margin_mse` | a teacher's scores, 2 documents; labels for `pairs="labelled"` | Hofstätter et al. 2020 |
| `mse` | labels, or a teacher's scores | Brier 1950; RAG-Retrieval's pointwise_mse |
| `ranknet` | labels, or a teacher's order, 2 documents | Burges et al., ICML 2005; of orders: Sun et al. 2023 |
| `similarity_distill` | a teacher's vectors of all texts of the step | Zhang et al. 2024 (Jasper and Stella) |
| `similarity_order` | a teacher's vectors of all texts of the step | Zhang et al. 2024 (Jasper and Stella) |
| `softmax_ce` | labels, 2 documents | Gao et al., ECIR 2021 (LCE); van den Oord et al. 2018 |
| `stella` | a teacher's vectors of the same width, of all texts of the step | Zhang et al. 2024 (Jasper and Stella) |

A loss belongs to one query. The trainer sums losses and divides by the number of queries of the whole optimizer step,
so the gradient does not depend on how the step is divided into forward passes and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from rerank_core.errors import InputError, near_matches, short
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import ListNet, SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet
from rerank_trainers.objectives.pointwise import BCE, MSE
from rerank_trainers.objectives.whole_step.cosent import CoSENT
from rerank_trainers.objectives.whole_step.embedding_distillation import EmbeddingDistillation
from rerank_trainers.objectives.whole_step.infonce import InfoNCE
from rerank_trainers.objectives.whole_step.similarity_distillation import SimilarityDistillation, SimilarityOrder
from rerank_trainers.objectives.whole_step.stella import Stella

__all__ = ["OBJECTIVES", "make_objective"]

_CLASSES: tuple[type[Any], ...] = (
    BCE,
    CoSENT,
    EmbeddingDistillation,
    InfoNCE,
    KL,
    LambdaLoss,
    ListNet,
    MarginMSE,
    MSE,
    RankNet,
    SimilarityDistillation,
    SimilarityOrder,
    SoftmaxCE,
    Stella,
)
OBJECTIVES: Mapping[str, type[Any]] = MappingProxyType(
    {kind.name: kind for kind in sorted(_CLASSES, key=lambda kind: kind.name)}
)


def make_objective(name: str, **options: object) -> Objective:
    """Create an objective by its name and options.

    >>> make_objective("listnet", tau=0.5)
    ListNet(tau=0.5, target='labels')

    Raises:
        InputError: an unknown name or option (similar names are suggested), or an invalid value of an option.
    """
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise InputError(f"no objective is called {short(name)}; {_nearest(name, list(OBJECTIVES))}")
    kind = OBJECTIVES[name]
    known = [option.name for option in fields(kind)]
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {short(option)}; {_nearest(option, known)}")
    objective: Objective = kind(**options)
    return objective


def _nearest(word: object, valid: list[str]) -> str:
    near = near_matches(word, valid, most=3)
    guess = f"did you mean {' or '.join(map(repr, near))}? It" if near else "it"
    return f"{guess} must be one of {', '.join(map(repr, valid))}"
