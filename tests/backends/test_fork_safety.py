"""A model that was loaded before a fork ranks in the child, as under gunicorn's ``--preload``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FORKED = """
import json, multiprocessing, os, sys, tempfile, threading
import rerank_core, torch
from rerank_core.backends.torch import load_weights
from rerank_core.testing import tiny_cross_encoder

torch.set_num_threads(2)
context = multiprocessing.get_context("fork")
docs = ["what is a panda? " * 30, "pandas eat bamboo. " * 20, "", "paris"] * 10
model = rerank_core.load(tiny_cross_encoder(tempfile.mkdtemp(), "bert", hidden=64), device="cpu")
folder = tiny_cross_encoder(tempfile.mkdtemp(), "bert")
expected = model.rerank("what is a panda?", docs).scores()

def ranked(query):
    return model.rerank(query, docs).scores()

def loaded(folder):
    return rerank_core.load(folder, device="cpu").rerank("what is a panda?", docs[:4]).scores()

with context.Pool(2) as pool:
    found = pool.map_async(ranked, ["what is a panda?"] * 3).get(60)
    threads = pool.apply_async(torch.get_num_threads).get(60)

held, done = threading.Event(), threading.Event()

def hold():
    with load_weights.quiet():
        held.set()
        done.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
with context.Pool(1) as pool:
    again = pool.apply_async(loaded, (folder,)).get(60)
done.set()
holder.join()
apart = max(abs(one - other) for scores in found for one, other in zip(expected, scores))
print(json.dumps({"apart": apart, "child": threads, "parent": torch.get_num_threads(), "again": len(again)}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_model_loaded_before_a_fork_ranks_in_the_child() -> None:
    """Two threads in the parent, which has ranked; children of a pool give its scores with one thread each, also
    where tokenizers were told to use threads, and load a model while a thread of the parent was at it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["TOKENIZERS_PARALLELISM"] = "true"
    environment["OMP_WAIT_POLICY"] = "passive"  # threads that spin take minutes on a busy machine
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr

    found = json.loads(ended.stdout)
    assert found.pop("apart") <= 1e-5
    assert found == {"child": 1, "parent": 2, "again": 4}
    assert "fork" not in ended.stderr
