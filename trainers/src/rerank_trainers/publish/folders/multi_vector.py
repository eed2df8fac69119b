"""The layout of sentence-transformers' `MultiVectorEncoder`, from release 6 on."""

from __future__ import annotations

from typing import Any

from rerank_trainers.publish.folders.json_files import write_json
from rerank_trainers.publish.folders.late_folder import LateFolder

__all__ = ["multi_vector_fault", "write_multi_vector"]

_ROOT = "sentence_transformers"
_CLASSES = {
    "Transformer": f"{_ROOT}.base.modules.transformer.Transformer",
    "Dense": f"{_ROOT}.base.modules.dense.Dense",
    "MultiVectorMask": f"{_ROOT}.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
    "Normalize": f"{_ROOT}.base.modules.normalize.Normalize",
}
_TOKENS = "token_embeddings"


def multi_vector_fault(late: LateFolder) -> str | None:
    """Why `MultiVectorEncoder` cannot express the model; None if it can."""
    if fault := late.fault():
        return fault
    before, after = late.frame
    if late.vectors.skip_first and (not before or before[0] in (*before[1:], *after)):
        return "it has no setting for a first token without a vector, and the tokenizer puts none in front of texts"
    return None


def write_multi_vector(late: LateFolder) -> None:
    """Write the files. The first token is left out by a skip-list for queries and documents. Queries are filled up and
    not cut (``min``)."""
    modules: list[tuple[str, str, dict[str, Any] | None]] = [("Transformer", "", None)]
    modules += [("Dense", name, None) for name in late.vectors.projection]
    for words, tasks in _skip_lists(late):
        mask = {"skiplist_words": words, "skiplist_tasks": tasks, "keep_only_token_ids": None}
        modules.append(("MultiVectorMask", f"{len(modules)}_MultiVectorMask", mask))
    if late.vectors.normalize:
        names = {"module_input_name": _TOKENS, "module_output_name": _TOKENS}
        modules.append(("Normalize", f"{len(modules)}_Normalize", names))
    for _, name, settings in modules:
        if settings is not None:
            write_json(late.folder / name / "config.json", settings)
    write_json(
        late.folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": name, "type": _CLASSES[kind]}
            for number, (kind, name, _) in enumerate(modules)
        ],
    )
    write_json(late.folder / "sentence_bert_config.json", _lengths(late))
    # The prefixes make the tokenizer recognise the markers; the last key keeps them from turning on query expansion.
    write_json(
        late.folder / "config_sentence_transformers.json",
        {
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": late.prompts.query, "document": late.prompts.doc},
            "default_prompt_name": None,
            "similarity_fn_name": "meanmaxsim" if late.head.reduce == "mean" else "maxsim",
            "query_prefix": late.markers.query,
            "document_prefix": late.markers.doc,
            "query_expansion": None,
        },
    )


def _skip_lists(late: LateFolder) -> list[tuple[list[str], list[str]]]:
    """Words without a vector, and the sides on which they have none; one list at least, for a mask is needed where
    queries are filled up."""
    both, docs = ["query", "document"], ["document"]
    everywhere = late.frame[0][:1] if late.vectors.skip_first else []
    if late.vectors.skip_in_queries:
        everywhere = everywhere + late.skipped
    lists = [(everywhere, both)] if everywhere else []
    if not lists or (late.skipped and not late.vectors.skip_in_queries):
        lists.append((late.skipped, docs))
    return lists


def _lengths(late: LateFolder) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_seq_length": late.spec.max_length,
        "do_lower_case": False,
        "document_length": late.spec.max_length,
        "query_length": late.query_limit,
        "query_expansion": None,
    }
    if late.vectors.expand_to is not None:
        settings["query_expansion"] = {
            "strategy": "min",
            "attend": late.vectors.attend_expansion,
            "token": late.vectors.expand_with,
            "length": late.vectors.expand_to,
        }
        if late.query_limit is not None:  # a limit below the length is refused
            settings["query_length"] = max(late.query_limit, late.vectors.expand_to)
    return settings
