"""The scores that a model's original framework, or plain transformers, gives a few pairs: the slow, separate way.

- sentence-transformers' `CrossEncoder` for cross-encoders, and for each folder that it saved;
- sentence-transformers' `MultiVectorEncoder` for late interaction (it reads PyLate's and Stanford's folders too);
- plain transformers for LLM rerankers, encoder-decoders and classifiers with a prompt, on the pieces of the template,
  and for BGE-M3's late interaction.

Nothing here computes with rerank-core; of the spec only data is read: the template, the labels and the limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core import Head, ModelSpec
from rerank_core.spec.template import RenderedTemplate

__all__ = ["NoReferenceError", "Reference", "reference_of"]


class NoReferenceError(Exception):
    """No framework in this environment computes this model; the message says why."""


class Reference:
    """A model in its original framework.

    Attributes:
        framework: its name and version.
        cuts_documents: whether rows that are too long lose the document's end, as ours do. Where the document comes
            first, sentence-transformers cuts the query.
    """

    framework: str
    cuts_documents = True

    def score(self, query: str, document: str) -> float:
        """The raw score of a pair, the document cut at the end where the row would be too long."""
        raise NotImplementedError


def reference_of(
    folder: Path, spec: ModelSpec, options: Mapping[str, Any], max_length: int, dtype: str, *, remote_code: bool = False
) -> Reference:
    """Open a model in its original framework.

    Args:
        folder: the model's files.
        options: values of the model's own options, by name.
        max_length: tokens of a row.
        dtype: of the weights, as torch names it.
        remote_code: run the code that the authors ship in the repository.

    Raises:
        NoReferenceError: this model has none here.
    """
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not (folder / "config.json").is_file() or not weights:
        raise NoReferenceError(f"{folder} is not a whole model; GGUF files and adapters are compared by the tests only")
    if spec.scorer is not None and (spec.head is None or spec.head.kind != "maxsim"):
        raise NoReferenceError(
            f"{spec.name} has layers of its own; `make parity` compares it with its authors' library"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "auto_map" in config and not remote_code:
        raise NoReferenceError("the original runs code of the repository; --remote-code allows that")
    try:
        return _opened(folder, spec, options, max_length, dtype, remote_code, config)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError, LookupError) as error:
        raise NoReferenceError(f"the original does not load here: {type(error).__name__}: {error}") from error


def _opened(
    folder: Path, spec: ModelSpec, options: Mapping[str, Any], max_length: int, dtype: str, remote_code: bool,
    config: Mapping[str, Any],
) -> Reference:  # fmt: skip
    head = spec.head
    if head is None:
        raise NoReferenceError(f"{spec.name} gives an order, no scores")
    saved = _saved_as(folder)
    if saved == "CrossEncoder" or (head.kind in ("classifier", "dense") and spec.template.wrap != "none"):
        return _CrossEncoder(folder, head, options, max_length, dtype, remote_code)
    if head.kind in ("classifier", "last_token"):
        return _Rows(folder, spec, head, options, max_length, dtype, remote_code, config)
    if head.kind == "maxsim" and (folder / "colbert_linear.pt").is_file():
        return _BgeM3(folder, max_length, dtype)
    if head.kind == "maxsim" and not _is_multi_vector(folder, saved):
        raise NoReferenceError(
            f"{spec.name} reads an embedding model as late interaction, which no framework here does"
        )
    if head.kind == "maxsim":
        return _MultiVector(folder, max_length, dtype, remote_code)
    raise NoReferenceError(f"no framework here computes a {head.kind!r} head")


def _saved_as(folder: Path) -> str:
    file = folder / "config_sentence_transformers.json"
    return str(json.loads(file.read_text(encoding="utf-8")).get("model_type", "")) if file.is_file() else ""


def _is_multi_vector(folder: Path, saved: str) -> bool:
    """Whether a folder is of late interaction: of sentence-transformers, of Stanford's ColBERT, or of PyLate."""
    modules = folder / "modules.json"
    stanford = (folder / "artifact.metadata").is_file()
    return saved == "MultiVectorEncoder" or stanford or (modules.is_file() and "pylate" in modules.read_text("utf-8"))


def _log_odds(logits: Sequence[float], head: Head, options: Mapping[str, Any]) -> float:
    """The score of a classifier: its logit, or with several labels the log-odds of one of them."""
    import torch

    if len(logits) == 1:
        return logits[0]
    label = options.get("label") or head.label
    chosen = head.labels.index(label) if label in head.labels else int(label or 1)
    others = [logit for number, logit in enumerate(logits) if number != chosen]
    return logits[chosen] - float(torch.logsumexp(torch.tensor(others, dtype=torch.float64), 0))


def _begins_with_the_document(tokenizer: Any) -> bool:
    """Whether a chat template writes the document before the query; contents are texts, or lists of parts."""
    marks = {"query": "first mark", "document": "second mark"}
    for written in (lambda text: text, lambda text: [{"type": "text", "text": text}]):
        messages = [{"role": role, "content": written(mark)} for role, mark in marks.items()]
        text = tokenizer.apply_chat_template(messages, tokenize=False) if tokenizer.chat_template else ""
        places = [text.find(mark) for mark in marks.values()]
        if min(places) >= 0:
            return places[1] < places[0]
    return False


class _CrossEncoder(Reference):
    def __init__(
        self, folder: Path, head: Head, options: Mapping[str, Any], max_length: int, dtype: str, remote_code: bool
    ) -> None:
        import sentence_transformers

        self.framework = f"sentence-transformers {sentence_transformers.__version__}"
        self._head, self._options = head, options
        self._model = sentence_transformers.CrossEncoder(
            str(folder), device="cpu", max_length=max_length, trust_remote_code=remote_code,
            model_kwargs={"dtype": dtype},
        )  # fmt: skip
        self.cuts_documents = not _begins_with_the_document(self._model.tokenizer)

    def score(self, query: str, document: str) -> float:
        import torch

        raw = self._model.predict(
            [(query, document)], activation_fn=torch.nn.Identity(), show_progress_bar=False, convert_to_tensor=True
        )
        return _log_odds(raw[0].double().reshape(-1).tolist(), self._head, self._options)


class _MultiVector(Reference):
    def __init__(self, folder: Path, max_length: int, dtype: str, remote_code: bool) -> None:
        import sentence_transformers

        self.framework = f"sentence-transformers {sentence_transformers.__version__}"
        self._model = sentence_transformers.MultiVectorEncoder(
            str(folder), device="cpu", trust_remote_code=remote_code, model_kwargs={"dtype": dtype}
        )
        self._model[0].document_length = max_length

    def score(self, query: str, document: str) -> float:
        asked = self._model.encode_query([query], show_progress_bar=False)
        read = self._model.encode_document([document], show_progress_bar=False)
        return float(self._model.similarity(asked, read)[0][0])


class _BgeM3(Reference):
    """Late interaction of BGE-M3 (Chen et al., 2024): every token but the first, projected, mean over the query's."""

    def __init__(self, folder: Path, max_length: int, dtype: str) -> None:
        import torch
        import transformers

        self.framework = f"transformers {transformers.__version__}"
        self._max_length = max_length
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder))
        self._model: Any = transformers.AutoModel.from_pretrained(str(folder), dtype=dtype).eval()
        saved = torch.load(folder / "colbert_linear.pt", map_location="cpu", weights_only=True)
        self._linear = torch.nn.Linear(*reversed(saved["weight"].shape), dtype=self._model.dtype)
        self._linear.load_state_dict(saved)

    def _vectors(self, text: str) -> Any:
        import torch

        inputs = self._tokenizer([text], truncation=True, max_length=self._max_length, return_tensors="pt")
        hidden = self._model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        return torch.nn.functional.normalize(self._linear(hidden[0, 1:]).float(), dim=-1)

    def score(self, query: str, document: str) -> float:
        import torch

        with torch.inference_mode():
            return float((self._vectors(query) @ self._vectors(document).T).max(dim=1).values.mean())


class _Rows(Reference):
    """Plain transformers on one row at a time: each piece of the template tokenized alone, every logit computed."""

    def __init__(
        self, folder: Path, spec: ModelSpec, head: Head, options: Mapping[str, Any], max_length: int, dtype: str,
        remote_code: bool, config: Mapping[str, Any],
    ) -> None:  # fmt: skip
        import transformers

        self.framework = f"transformers {transformers.__version__}"
        self._head, self._options, self._max_length = head, options, max_length
        self._encoder_decoder = bool(config.get("is_encoder_decoder"))
        if head.kind == "classifier":
            auto: Any = transformers.AutoModelForSequenceClassification
        else:
            auto = transformers.AutoModelForSeq2SeqLM if self._encoder_decoder else transformers.AutoModelForCausalLM
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=remote_code)
        self._model = auto.from_pretrained(str(folder), dtype=dtype, trust_remote_code=remote_code).eval()
        starts = (self._model.config, self._model.generation_config) if self._encoder_decoder else ()
        known = [getattr(one, name, None) for name in ("decoder_start_token_id", "bos_token_id") for one in starts]
        self._start = next((start for start in known if start is not None), None)
        self._template = RenderedTemplate.of(spec.template, spec.options, options, self._tokenizer.bos_token)

    def score(self, query: str, document: str) -> float:
        import torch

        inputs = {"input_ids": torch.tensor([self._row(query, document)])}
        if self._encoder_decoder:
            inputs["decoder_input_ids"] = torch.tensor([[self._start]])
        with torch.inference_mode():
            logits = self._model(**inputs).logits[0].double()
        if self._head.kind == "classifier":
            return _log_odds(logits.reshape(-1).tolist(), self._head, self._options)
        assert self._head.positive is not None
        score = logits[-1, self._id(self._head.positive)]
        return float(score if self._head.negative is None else score - logits[-1, self._id(self._head.negative)])

    def _id(self, label: str | int) -> int:
        if isinstance(label, int):
            return label
        ids: list[int] = self._tokenizer(label, add_special_tokens=False)["input_ids"]
        return ids[-1]  # SentencePiece may begin with a token for the space

    def _row(self, query: str, document: str) -> list[int]:
        """The ids of a row; tokens of the document's own text are left out at its end where there are too many."""
        pieces = self._template.pieces(query, document)
        literal = self._template.literal
        place = len(literal["before"])
        if self._template.order == "query_first":
            place += 1 + len(literal["between"])
        before, after = self._template.around["doc"]
        ids, own = [], []
        for number, piece in enumerate(pieces):
            found = self._tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            if number == place:
                end = len(piece) - len(after)
                spans = enumerate(found["offset_mapping"], len(ids))
                own = [at for at, (start, stop) in spans if stop > len(before) and start < end]
            ids.extend(found["input_ids"])
        excess = max(0, len(ids) - self._max_length)
        dropped = set(own[len(own) - excess :]) if excess else set()
        return [id_ for at, id_ in enumerate(ids) if at not in dropped]
