"""``python -m rerank_core`` is the ``rerank`` command."""

from rerank_core.cli import main

if __name__ == "__main__":
    main()
