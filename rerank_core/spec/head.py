"""`Head`: how a score is computed from a model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from rerank_core.errors import InputError, one_of, short
from rerank_core.spec.token_vectors import TokenVectors
from rerank_core.types import ScoreSpace

__all__ = ["MOST_LABELS", "Head", "HeadKind", "Pooling"]

HeadKind: TypeAlias = Literal["classifier", "dense", "maxsim", "cosine", "last_token", "layers"]
Pooling: TypeAlias = Literal["mean", "cls", "last"]

MOST_LABELS = 1000
"""Labels that a classifier may have; rerankers have one or two."""

_MOST_MODULES = 32

# The fields that each kind uses; `Head` refuses the other fields.
_FIELDS: dict[str, tuple[str, ...]] = {
    "classifier": ("labels", "label"),
    "dense": ("pooling", "modules"),
    "maxsim": ("reduce", "vectors", "pooling"),
    "cosine": ("pooling", "modules", "normalize"),
    "last_token": ("positive", "negative"),
    "layers": ("first", "step", "weights"),
}


@dataclass(frozen=True)
class Head:
    """How a score is computed from the model's output. Use the constructors, one per kind.

    Attributes:
        kind: ``classifier`` (sequence classification), ``dense`` (layers beside an encoder), ``maxsim`` (late
            interaction), ``cosine`` (the similarity of two text vectors), ``last_token`` (a causal language model's
            logit of a token) or ``layers`` (a causal model with a score at every layer).
        labels: for ``classifier``, the names of the labels by number where there are several; empty for a single logit.
        label: for ``classifier``, the label of `labels` whose log-odds is the score; None where the caller must say.
        reduce: for ``maxsim``, how the maximum similarities of the query's tokens are combined: ``sum`` or ``mean``.
        vectors: for ``maxsim``, how hidden states become token vectors.
        modules: for ``dense`` and ``cosine``, the layers after the pooling: folders, or names of weights.
        normalize: for ``cosine``, whether vectors are scaled to length 1; without, the score is their product.
        pooling: for ``cosine`` and ``dense``, how the last hidden states of a row become its vector: their ``mean``,
            the first (``cls``) or the ``last``. With ``maxsim``, the cosine is computed too (`score_option`).
        positive, negative: for ``last_token``, the words whose logits give the score, or their token ids.
        first, step, weights: for ``layers``, see `layers`.
    """

    kind: HeadKind
    reduce: Literal["mean", "sum"] | None = None
    positive: str | int | None = None
    negative: str | int | None = None
    first: int | None = None
    step: int | None = None
    weights: str | None = None
    vectors: TokenVectors | None = None
    pooling: Pooling | None = None
    labels: tuple[str, ...] = ()
    label: str | None = None
    modules: tuple[str, ...] = ()
    normalize: bool | None = None

    def __post_init__(self) -> None:
        one_of(self.kind, tuple(_FIELDS), "Head.kind")
        for name in sorted(set().union(*_FIELDS.values()) - set(_FIELDS[self.kind])):
            if getattr(self, name) not in (None, (), []):
                raise InputError(f"Head(kind={self.kind!r}) takes no {name}={getattr(self, name)!r}")
        self._check_labels()
        self._check_modules()
        if self.kind == "cosine":
            object.__setattr__(self, "normalize", True if self.normalize is None else self.normalize)
            if not isinstance(self.normalize, bool):
                raise InputError(f"Head.cosine(normalize={short(self.normalize)}): it must be True or False")
        if self.kind == "maxsim":
            one_of(self.reduce, ("mean", "sum"), "Head.reduce")
            vectors: Any = self.vectors
            if vectors is None or isinstance(vectors, Mapping):  # a mapping comes from a JSON file
                object.__setattr__(self, "vectors", TokenVectors(**(vectors or {})))
            elif not isinstance(vectors, TokenVectors):
                raise InputError(f"Head.maxsim(vectors={short(vectors)}): it must be TokenVectors")
            if self.pooling is not None and self.vectors is not None and self.vectors.expand_to is not None:
                raise InputError(
                    f"Head.maxsim(pooling={self.pooling!r}) would pool the tokens that fill up a query "
                    f"(expand_to={self.vectors.expand_to!r}); leave one of the two out"
                )
        if self.pooling is not None or self.kind in ("cosine", "dense"):
            one_of(self.pooling, get_args(Pooling), "Head.pooling")
        if self.kind == "last_token":
            for name in ("positive", "negative"):
                label = getattr(self, name)
                if not (_is_label(label) or (name == "negative" and label is None)):
                    raise InputError(
                        f"Head.last_token({name}={short(label)}): it must be a word, or a token id as an integer from 0"
                    )
            if self.positive == self.negative:
                raise InputError(
                    f"Head.last_token(positive={short(self.positive)}, negative={short(self.negative)}): "
                    "negative must be a label other than positive, or None"
                )
        if self.kind == "layers":
            for name in ("first", "step"):
                value = getattr(self, name)
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise InputError(f"Head.layers({name}={short(value)}): it must be a positive integer")
            if not isinstance(self.weights, str) or self.weights.count("{i}") != 1:
                raise InputError(f"Head.layers(weights={short(self.weights)}): it must hold {{i}} exactly once")

    def _check_labels(self) -> None:
        """Make ``labels`` a tuple of different names, with ``label`` among them."""
        labels: Any = self.labels
        if not isinstance(labels, (tuple, list)) or not all(isinstance(name, str) and name for name in labels):
            raise InputError(f"Head.classifier(labels={short(labels)}): they must be a list of names")
        if len(labels) > MOST_LABELS or len(set(labels)) != len(labels):
            raise InputError(
                f"Head.classifier(labels={short(labels)}): they must be different names, at most {MOST_LABELS}"
            )
        object.__setattr__(self, "labels", tuple(labels))
        if self.label is not None and (len(labels) < 2 or self.label not in labels):
            raise InputError(
                f"Head.classifier(label={short(self.label)}): it must be one of several labels, which are "
                f"{short(list(labels))}"
            )

    def _check_modules(self) -> None:
        """Make ``modules`` a tuple of names, of which ``dense`` has one at least."""
        modules: Any = self.modules
        prefix = f"Head.{self.kind}(modules={short(modules)})"
        if not isinstance(modules, (tuple, list)) or not all(isinstance(name, str) and name for name in modules):
            raise InputError(f"{prefix}: they must be a list of names")
        least = 1 if self.kind == "dense" else 0
        if not least <= len(modules) <= _MOST_MODULES:
            raise InputError(f"{prefix}: there must be {least} to {_MOST_MODULES} of them")
        object.__setattr__(self, "modules", tuple(modules))

    @classmethod
    def classifier(cls, labels: Sequence[str] = (), label: str | None = None) -> Head:
        """The logit of a sequence classifier (a cross-encoder; Nogueira & Cho, 2019): the single one, or with several
        labels the log-odds of one of them against all others, which for two is the difference of their logits.

        Args:
            labels: the names of the labels, by number. A model with several has the option ``label``, a name or a
                number.
            label: the default of that option; without it ``load`` refuses a model whose caller does not say which
                label is the score.
        """
        given: Any = labels  # checked there
        return cls("classifier", labels=given, label=label)

    @classmethod
    def dense(cls, pooling: Pooling, modules: Sequence[str]) -> Head:
        """Layers beside an encoder that make one number from its pooled hidden states, as sentence-transformers >= 5.4
        saves a `CrossEncoder` of modules (the ettin rerankers).

        Args:
            pooling: how the last hidden states of a row become one vector: the first token (``cls``), the ``last``
                one, or the ``mean`` of all, special tokens included.
            modules: the folders of the modules after the pooling, in order, such as ``2_Dense`` and ``3_LayerNorm``.
        """
        given: Any = modules  # checked there
        return cls("dense", pooling=pooling, modules=given)

    @classmethod
    def maxsim(
        cls,
        reduce: Literal["mean", "sum"] = "sum",
        vectors: TokenVectors | None = None,
        *,
        pooling: Pooling | None = None,
    ) -> Head:
        """MaxSim over token vectors: the maximum similarity of each query token with the document's tokens, summed
        (ColBERT; Khattab & Zaharia, 2020) or averaged over the query's tokens.

        Args:
            vectors: how hidden states become token vectors; by default the encoder's last hidden state of every token,
                normalised.
            pooling: also pool each text's hidden states into one vector, whose cosine the model's option ``score``
                offers; see `cosine`.
        """
        return cls("maxsim", reduce=reduce, vectors=vectors, pooling=pooling)

    @classmethod
    def cosine(cls, pooling: Pooling = "mean", modules: Sequence[str] = (), *, normalize: bool = True) -> Head:
        """The cosine of the query's and the document's vector, as embedding models are trained for (Reimers & Gurevych,
        *Sentence-BERT*, 2019).

        Args:
            pooling: how the last hidden states of a row become its vector: the ``mean`` over all tokens, special tokens
                included, the first token (``cls``) or the ``last`` one.
            modules: layers after the pooling, in order, from the checkpoint: folders of sentence-transformers' modules
                such as ``2_Dense``, or names of weights such as ``projection.0.weight``.
            normalize: scale vectors to length 1. Without, the score is the product of the vectors, for models trained
                for that; `ModelSpec.raw_space` is ``dot`` then.
        """
        given: Any = modules  # checked there
        return cls("cosine", pooling=pooling, modules=given, normalize=normalize)

    @classmethod
    def last_token(cls, positive: str | int, negative: str | int | None = None) -> Head:
        """The logit that a causal language model gives ``positive`` as the next token of a row, or an encoder-decoder
        as the first token of its answer; with ``negative``, the log-odds of the two (monoT5, Nogueira et al., 2020).

        Args:
            positive, negative: each a word that is a single token of the model's tokenizer, or the token's id.
        """
        return cls("last_token", positive=positive, negative=negative)

    @classmethod
    def layers(cls, first: int, step: int = 1, weights: str = "lm_head.{i}.linear_head.weight") -> Head:
        """A causal model with one linear head at each of the layers ``first``, ``first + step``, ... (FlagEmbedding's
        layerwise rerankers). The model's option ``layer`` chooses the layers that score.

        Args:
            weights: the name of a head's weight in the checkpoint, where ``{i}`` counts the heads from 0.
        """
        return cls("layers", first=first, step=step, weights=weights)

    @property
    def score_space(self) -> ScoreSpace:
        """The kind of the raw score."""
        if self.kind == "maxsim":
            return "maxsim"
        if self.kind == "cosine":
            return "cosine" if self.normalize else "dot"
        return "logit"


def _is_label(value: object) -> bool:
    """Whether a value names a token: a word, or an id."""
    return bool(value) if isinstance(value, str) else type(value) is int and value >= 0
