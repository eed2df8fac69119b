"""Measures how long `mini` and `mini-multilingual` take to load and how much memory they use, each in a fresh process.

    python benchmarks/load_memory.py [--rounds 3]

Transformers imports a model's code when the model is first used, so that the first load in a process pays for it. The
figures are: the seconds and memory of that import, above those of torch and transformers imported; then the seconds of
`load` alone, and the resident memory above that of the imports: after loading, at the highest point of loading, and
after a first ranking. Linux only. The median of the rounds is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

MODELS = ("mini", "mini-multilingual")
RESULTS = Path(__file__).resolve().parent / "results" / "load_memory.json"
TITLES = {
    "import_seconds": "seconds to import transformers' BERT",
    "import_mb": "MB of transformers' BERT",
    "seconds": "seconds to load",
    "loaded_mb": "MB after loading",
    "peak_mb": "MB at the highest point of loading",
    "ranked_mb": "MB after a first ranking",
}


def resident(field: str = "VmRSS") -> float:
    """MB of this process that are in memory now, or with ``VmHWM`` the most there were since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def forget_peak() -> None:
    """Set the kernel's highest resident set of this process to the present one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(model: str) -> dict[str, float]:
    """The figures of one model; the process must have imported nothing else before."""
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import rerank_core

    imported, started = resident(), time.perf_counter()
    from transformers import BertModel  # noqa: F401

    imports = {"import_seconds": time.perf_counter() - started, "import_mb": resident() - imported}
    forget_peak()
    before = resident()
    started = time.perf_counter()
    reranker = rerank_core.load(model, device="cpu")
    seconds = time.perf_counter() - started
    loaded, peak = resident(), resident("VmHWM")
    reranker.rerank("what does a panda eat?", ["A giant panda eats bamboo.", "It rains."])
    memory = {"loaded_mb": loaded, "peak_mb": peak, "ranked_mb": resident()}
    return {**imports, "seconds": seconds, **{name: value - before for name, value in memory.items()}}


def in_fresh_process(model: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=MODELS, help="measure in this process, once")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    from parts.run import machine, write  # imports torch, which a measured process must not have done

    models = {}
    for model in MODELS:
        rounds = [in_fresh_process(model) for _ in range(options.rounds)]
        models[model] = {name: round(median(one[name] for one in rounds), 2) for name in TITLES}
        for name, title in TITLES.items():
            print(f"{model:18} {title:36} {models[model][name]:8.2f}")
    write(options.json, {"machine": machine(), "rounds": options.rounds, "models": models})


if __name__ == "__main__":
    main()
