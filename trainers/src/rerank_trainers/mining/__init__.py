"""Mines hard negatives: documents that a search returns for a query and that are not among its positives.

corpus = Corpus.of_rows(rows)
for row in mine(rows, corpus, BM25(corpus.texts), MiningRules(negatives=8, from_rank=5)):
    ...
"""

from rerank_core.measures import BM25
from rerank_trainers.mining.miner import mine, positives_of
from rerank_trainers.mining.rules import MiningRules
from rerank_trainers.mining.statistics import MiningStatistics
from rerank_trainers.retrieval.corpus import Corpus
from rerank_trainers.retrieval.retrievers import LateInteractionRetriever, Retriever

__all__ = [
    "BM25",
    "Corpus",
    "LateInteractionRetriever",
    "MiningRules",
    "MiningStatistics",
    "Retriever",
    "mine",
    "positives_of",
]
