"""Cross-encoders, each in the environment of its library: run as ``cross_encoder_engines.py NAME
DIRECTORY``; worker.py defines requests and answers.

Every engine scores ``[(query, documents), ...]`` as the library's documentation shows, in float32 on the CPU, and
returns one list of scores. Only our own engine imports rerank-core.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from engines.worker import serve

LENGTH = 512
AT_LEAST = 1.0
"""Seconds: shorter work is repeated until so many have passed, and its median is the answer."""
Requests = list[tuple[str, list[str]]]
Score = Callable[[Requests], list[float]]


def pairs(requests: Requests) -> list[list[str]]:
    return [[query, doc] for query, docs in requests for doc in docs]


def ours(directory: str, dtype: str = "float32") -> Score:
    import rerank_core

    model = rerank_core.load(directory, device="cpu", longdoc="firstp", dtype=dtype, activation="none")
    return lambda requests: [score for ranking in model.rerank_many(requests) for score in ranking.scores()]


def sentence_transformers(directory: str) -> Score:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(directory, device="cpu", max_length=LENGTH)
    plain = torch.nn.Identity()
    return lambda requests: model.predict(pairs(requests), activation_fn=plain, show_progress_bar=False).tolist()


def flagembedding(directory: str) -> Score:
    from FlagEmbedding import FlagReranker

    model = FlagReranker(directory, use_fp16=False, devices="cpu", max_length=LENGTH)
    return lambda requests: model.compute_score(pairs(requests))


def rag_retrieval(directory: str) -> Score:
    from rag_retrieval import Reranker

    model = Reranker(directory, model_type="cross-encoder", device="cpu", verbose=0)
    return lambda requests: model.compute_score(pairs(requests), max_length=LENGTH, enable_tqdm=False)


def bcembedding(directory: str) -> Score:
    from BCEmbedding import RerankerModel

    model = RerankerModel(directory, device="cpu")
    return lambda requests: model.compute_score(pairs(requests), max_length=LENGTH, enable_tqdm=False)


def rerankers(directory: str) -> Score:
    from rerankers import Reranker

    model = Reranker(directory, model_type="cross-encoder", device="cpu", verbose=0)

    def score(requests: Requests) -> list[float]:
        scores: list[float] = []
        for query, docs in requests:
            ranked = model.rank(query, docs, doc_ids=list(range(len(docs))))
            by_id = {result.document.doc_id: float(result.score) for result in ranked.results}
            scores += [by_id[number] for number in range(len(docs))]
        return scores

    return score


def _batches(directory: str, run: Callable[[Any], Any], budget: int = 2048) -> Score:
    """Length-sorted padded batches of at most ``budget`` tokens, padding included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)

    def score(requests: Requests) -> list[float]:
        texts = pairs(requests)
        encoded = tokenizer([a for a, _ in texts], [b for _, b in texts], truncation=True, max_length=LENGTH)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])
        scores = [0.0] * len(texts)
        start = 0
        while start < len(order):
            chosen = order[start : start + max(1, budget // lengths[order[start]])]
            batch = tokenizer.pad(
                {key: [encoded[key][index] for index in chosen] for key in ("input_ids", "attention_mask")},
                return_tensors="pt",
            )
            for index, value in zip(chosen, run(batch), strict=True):
                scores[index] = float(value)
            start += len(chosen)
        return scores

    return score


def _onnx(directory: str) -> Path:
    """The ONNX file of a checkpoint, exported once."""
    import torch
    from transformers import AutoModelForSequenceClassification

    file = Path(directory) / "onnx" / "model.onnx"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        module = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
        example = (torch.full((2, 9), 7), torch.ones((2, 9), dtype=torch.long))
        axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("tokens", min=2, max=LENGTH)}
        torch.onnx.export(
            module, example, str(file), input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes}, dynamo=True, external_data=True,
        )  # fmt: skip
    return file


def _onnx_int8(directory: str) -> Path:
    """The ONNX file with ONNX Runtime's dynamic quantization, made once with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    exported = _onnx(directory)
    file = exported.with_name("model-int8.onnx")
    if not file.exists():
        quantize_dynamic(exported, file)
    return file


def onnx_runtime(directory: str, make: Callable[[str], Path] = _onnx) -> Score:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(str(make(directory)), options, providers=["CPUExecutionProvider"])

    def run(batch: Any) -> Any:
        return session.run(None, {key: batch[key].numpy() for key in ("input_ids", "attention_mask")})[0][:, 0]

    return _batches(directory, run)


def openvino(directory: str) -> Score:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": os.cpu_count() or 1}
    compiled = ov.compile_model(ov.convert_model(str(_onnx(directory))), "CPU", settings)

    def run(batch: Any) -> Any:
        return compiled({key: batch[key].numpy() for key in ("input_ids", "attention_mask")})[0][:, 0]

    return _batches(directory, run)


ENGINES: dict[str, Callable[[str], Score]] = {
    "ours": ours, "ours-int8": functools.partial(ours, dtype="int8"),
    "sentence-transformers": sentence_transformers,
    "flagembedding": flagembedding, "rag-retrieval": rag_retrieval, "bcembedding": bcembedding, "rerankers": rerankers,
    "onnx-runtime": onnx_runtime, "onnx-runtime-int8": functools.partial(onnx_runtime, make=_onnx_int8),
    "openvino": openvino,
}  # fmt: skip


def main(name: str, directory: str, engines: dict[str, Callable[[str], Score]] = ENGINES) -> None:
    """Serve one of ``engines``: answers have the seconds, those of the first time that the work was done, the scores
    and the peak memory in bytes."""

    def load() -> Callable[[Any, bool], dict[str, Any]]:
        score = engines[name](directory)

        def measure(work: Any, warm_up: bool) -> dict[str, Any]:
            requests = [(query, docs) for query, docs in work]
            if warm_up:
                requests = [(query, docs[:4]) for query, docs in requests[:1]]
            times: list[float] = []
            while not times or (sum(times) < AT_LEAST and not warm_up):
                started = time.perf_counter()
                scores = score(requests)
                times.append(time.perf_counter() - started)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            scores = [float(value) for value in scores]
            return {"seconds": median(times), "first": times[0], "scores": scores, "peak": peak}

        return measure

    serve(load)


if __name__ == "__main__":
    main(*sys.argv[1:])
