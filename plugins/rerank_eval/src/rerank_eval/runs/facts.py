"""Facts of a loaded model and of its process: parameters, memory, machine, versions."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from rerank_core import Options, Reranker, RerankError, Scorer
from rerank_eval.runs.model_run import RunFacts

__all__ = ["facts_of", "peak_bytes", "public_options"]


def facts_of(reranker: Reranker, load_seconds: float) -> RunFacts:
    """The facts of a model that was just loaded; ``peak_bytes`` changes later, see the function of that name."""
    scorer: Any = reranker.scorer
    devices = getattr(scorer, "devices", None) or [getattr(scorer, "device", None)]
    device = ",".join(map(str, filter(None, devices))) or None
    threads = getattr(scorer, "workers", None)
    cascades = bool(reranker.options.model.get("cascade"))
    spaces = {True: "rank", False: reranker.spec.raw_space}
    return RunFacts(
        parameters=_parameters(reranker),
        load_seconds=load_seconds,
        peak_bytes=peak_bytes(),
        device=device,
        threads=threads if isinstance(threads, int) else None,
        dtype=reranker.options.dtype or (None if device is None else "float32"),
        machine=_machine(device or ""),
        versions=_versions(reranker.spec.scorer),
        score_space=spaces[cascades or (hasattr(scorer, "rank") and not isinstance(scorer, Scorer))],
        calibrated=bool(reranker.spec.calibrated),
        instructed=any(option.name == "instruction" for option in reranker.spec.options),
    )


def public_options(reranker: Reranker) -> dict[str, Any]:
    """The options with which a model was loaded and that differ from the default, without secrets."""
    options, spec = reranker.options, reranker.spec
    common = {item.name: item.default for item in fields(Options) if item.name != "model"}
    given = {name: value for name, default in common.items() if (value := getattr(options, name)) != default}
    own = {item.name: item.default for item in spec.options if not item.secret}
    given |= {name: value for name, value in options.model.items() if name in own and value != own[name]}
    plain: dict[str, Any] = json.loads(json.dumps(given, default=repr))
    return plain


def peak_bytes() -> int | None:
    """The largest memory so far: of the GPU where torch reserved some there, else resident memory of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks = [torch.cuda.max_memory_reserved(number) for number in range(torch.cuda.device_count())]
        if any(peaks):
            return int(max(peaks))
    # `ru_maxrss` begins with the memory of the process that started this one; VmHWM does not.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _parameters(reranker: Reranker) -> int | None:
    """The number of weights: what the model's spec says, else counted in its files."""
    spec, scorer = reranker.spec, reranker.scorer
    if spec.parameters is not None and reranker.options.checkpoint is None:
        return spec.parameters
    if not isinstance(scorer, Scorer) or "torch" not in sys.modules:
        return spec.parameters
    from rerank_core.backends.torch import count_weights, locate, model_folder

    try:
        folder = Path(model_folder(locate(spec, reranker.options), spec, reranker.options))
        return count_weights(folder) or spec.parameters
    except (RerankError, OSError, ValueError):
        return spec.parameters


def _machine(device: str) -> str:
    """The processor with the number of usable cores, and the GPU where the model runs there."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = (
        f", {torch.cuda.get_device_name(device.split(',')[0])}"
        if torch is not None and device.startswith("cuda")
        else ""
    )
    return f"{processor}, {cores} cores{gpu}"


def _versions(scorer: str | None) -> dict[str, str]:
    """Versions of the code that computes the scores: the core, torch and transformers where they are used, and the
    plugin where the model has a scorer of its own."""
    names = {"rerank-core", *(name for name in ("torch", "transformers") if name in sys.modules)}
    for point in entry_points(group="rerank_core"):
        if (
            scorer is not None
            and point.dist is not None
            and point.module.split(".")[0] == scorer.split(".")[0].split(":")[0]
        ):
            names.add(point.dist.name)
    versions = {}
    for name in sorted(names):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
