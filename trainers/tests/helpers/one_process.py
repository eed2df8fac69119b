"""One process of a training run, started by the tests: ``python one_process.py JOBS.json``.

A job is ``{"config", "rows", "dev", "loud", "out"}``: what to train on which files, whether to print each step, and
where the weights and the dev set's measures are written, with the number of the process behind. Without ``rows`` it is
the whole of `train`, which reads the files of the configuration.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from rerank_trainers.config.parse import parse_config
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.kinds import kind_of
from rerank_trainers.loop.prepare import prepare
from rerank_trainers.train import leave, train


class Loud(transformers.TrainerCallback):  # type: ignore[misc]
    """Prints each step, slowly, so that it can be interrupted."""

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        sys.stdout.write(f"step {state.global_step}\n")
        sys.stdout.flush()
        time.sleep(0.3)


def do(job: dict[str, Any]) -> None:
    """Train, measure and write down."""
    if "rows" in job:
        dev = open_rows([job["dev"]]) if job.get("dev") else None
        config = parse_config(job["config"])
        run = prepare(config, kind_of(config.model), open_rows([job["rows"]]), dev)
        run.trainer.remove_callback(transformers.PrinterCallback)
        if job.get("loud"):
            run.trainer.add_callback(Loud())
        run.train()
    else:
        run = train(parse_config(job["config"]), publish=False).run
    found = run.evaluate()
    told = {
        "values": None if found is None else dict(found.values),
        "queries": None if found is None else dict(found.queries),
        "interrupted": run.interrupted,
        "processes": run.trainer.args.world_size,
        "device": run.trainer.args.device.type,
        "steps": run.trainer.state.global_step,
        "losses": [one["loss"] for one in run.trainer.state.log_history if "loss" in one],
        "spreads": [one["score_spread"] for one in run.trainer.state.log_history if "score_spread" in one],
    }
    out = f"{job['out']}-{run.trainer.args.process_index}"
    torch.save(run.model.module.state_dict(), f"{out}.pt")
    Path(f"{out}.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        do(one)
    leave()
