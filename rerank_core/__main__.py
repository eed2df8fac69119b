"""The ``rerank`` command, also as ``python -m rerank_core``. It imports nothing at first, so that Ctrl-C ends it in one
line from the beginning."""

import sys

__all__ = ["main"]


def main() -> None:
    """The console script."""
    try:
        from rerank_core.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
