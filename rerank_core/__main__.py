"""The ``rerank`` command, also as ``python -m rerank_core``. It imports the package inside `main`, so that Ctrl-C
during the imports ends it with one line and no traceback."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the console script."""
    try:
        from rerank_core.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
