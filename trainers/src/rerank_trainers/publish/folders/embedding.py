"""`write_embedding`: the files with which sentence-transformers opens a published embedding model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_core import InputError, ModelSpec
from rerank_trainers.publish.folders.json_files import read_object, write_json
from rerank_trainers.publish.folders.prompts import prompts_of
from rerank_trainers.publish.folders.tokenizer_files import drop_chat_template

__all__ = ["write_embedding"]

# Names of classes in sentence-transformers before 5.4, which later releases and other servers know too.
_CLASSES = "sentence_transformers.models."
_POOLINGS = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
_ALL_POOLINGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def write_embedding(folder: Path, spec: ModelSpec, *, widths: Sequence[int] = ()) -> None:
    """Write the files with which ``SentenceTransformer(folder)`` opens an embedding model, and ``encode(texts,
    prompt_name="query")`` (or ``"document"``) gives the vectors of rerank-core.

    sentence-transformers reads a text only up to ``max_length`` tokens, and has no limit of its own for queries.

    Args:
        folder: has the encoder, its tokenizer, and the layers that the head's ``modules`` name.
        widths: the widths that the model was trained for (Matryoshka). ``config.json`` gets them and that of the whole
            vector as ``matryoshka_dimensions``, the key that vLLM reads; it stays there when sentence-transformers
            saves the model again. Where the model's option ``truncate_dim`` has a default, sentence-transformers cuts
            vectors to it.

    Raises:
        InputError: another head, a template that prompts cannot express, or a width that the vectors do not have.
    """
    head = spec.head
    if head is None or head.kind != "cosine" or head.pooling is None:
        raise InputError(f"model {spec.name!r} is no embedding model: its head is {head!r}, not Head.cosine()")
    prompts = prompts_of(spec)
    if marker := spec.template.query_marker or spec.template.doc_marker:
        raise InputError(
            f"model {spec.name!r} has the marker {marker!r}, and sentence-transformers reads markers only for late "
            "interaction; leave it out, or write it as text into the template's query or doc"
        )
    config = read_object(folder / "config.json")
    hidden = _hidden_size(folder)
    modules, width = _head_modules(folder, head.modules, hidden)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *modules]
    if head.normalize:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
    for wrong in (value for value in widths if not 1 <= value <= width):
        raise InputError(f"the width {wrong!r} is none of the model's vectors, which have {width} values")

    pooling = {f"pooling_mode_{name}": name == _POOLINGS[head.pooling] for name in _ALL_POOLINGS}
    write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **pooling, "include_prompt": True}
    )
    write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"{_CLASSES}{kind}"}
            for number, (kind, path) in enumerate(modules)
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": spec.max_length, "do_lower_case": False})
    settings: dict[str, Any] = {
        "model_type": "SentenceTransformer",
        "prompts": {"query": prompts.query, "document": prompts.doc, "passage": prompts.doc},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if head.normalize else "dot",
    }
    kept = next((option.default for option in spec.options if option.name == "truncate_dim"), None)
    if kept is not None:
        settings["truncate_dim"] = kept
    write_json(folder / "config_sentence_transformers.json", settings)
    if widths:
        more = {"is_matryoshka": True, "matryoshka_dimensions": sorted({*widths, width}, reverse=True)}
        write_json(folder / "config.json", config | more)
    drop_chat_template(folder)


def _hidden_size(folder: Path) -> int:
    from transformers import AutoConfig

    size: int = AutoConfig.from_pretrained(str(folder), local_files_only=True).hidden_size
    return size


def _head_modules(folder: Path, names: Sequence[str], width: int) -> tuple[list[tuple[str, str]], int]:
    """The class and folder of each module after the pooling, and the width of the vectors.

    Raises:
        InputError: a module that is no folder of sentence-transformers.
    """
    modules = []
    for name in names:
        config = read_object(folder / name / "config.json")
        if "in_features" in config:
            kind, width = "Dense", config["out_features"]
        elif set(config) == {"dimension"}:
            kind = "LayerNorm"
        elif set(config) == {"dropout"}:
            kind = "Dropout"
        elif name.endswith("Normalize"):
            kind = "Normalize"
        else:
            raise InputError(
                f"the head names the module {name!r}, and the folder has no module of sentence-transformers there; "
                "write it first (write_projection)"
            )
        modules.append((kind, name))
    return modules, width
