"""`busy_process`: another process that computes without pause on one core, as other services on a machine do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["busy_process"]

# It ends with its parent, however that ends: its stdin is closed then.
_CODE = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print("started", flush=True)
while True:
    pass
"""


@contextmanager
def busy_process() -> Iterator[int]:
    """Run the block beside a process of the same priority, which is free to take any core; yields its number."""
    process = subprocess.Popen([sys.executable, "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        yield process.pid
    finally:
        process.kill()
        process.communicate()
