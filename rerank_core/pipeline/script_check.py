"""`ScriptCheck`: warns once where texts are written in a script that no language of the model uses."""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set

from rerank_core.pipeline.letters import LATIN, SCRIPTS, letters_of, scripts_of
from rerank_core.planning.row_plan import Job
from rerank_core.plugins.registry import first_party
from rerank_core.spec import ModelSpec
from rerank_core.types import Document

__all__ = ["ScriptCheck"]

# The most that is read of a call: so many requests, of each the query and so many documents, spread over the list, and
# of each text the first characters. It takes less than a millisecond.
_REQUESTS = 4
_DOCUMENTS = 8
_CHARACTERS = 100
# Fewer letters decide nothing: "β" may stand in an English text.
_FEWEST_LETTERS = 3

_OTHER_MODEL = "mini-multilingual"


class ScriptCheck:
    """The check of one reranker. The warning goes to the logger ``rerank_core``, and nothing else changes."""

    def __init__(self, spec: ModelSpec) -> None:
        self._name = spec.name
        self._languages = spec.languages
        self._read = scripts_of(spec.languages)
        self._lock = threading.Lock()  # two threads that find it at once give one warning

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Log a warning, once, where the query of a job or most of its documents have mostly letters of a script that
        the model does not read."""
        read = self._read
        if read is None:
            return
        for job in jobs[:_REQUESTS]:
            found = _unread_of_query(job.query, read) or _unread_of_documents(job.documents, read)
            if found is not None:
                with self._lock:
                    first, self._read = self._read is not None, None
                if first:
                    _log(_message(self._name, self._languages, *found))
                return


def _unread_of_query(query: str, read: Set[str]) -> tuple[str, str] | None:
    script = _unread(query, read)
    # A name in Latin letters is a query in every language.
    return None if script in (None, "", LATIN) else ("the query is", str(script))


def _unread_of_documents(documents: Sequence[Document], read: Set[str]) -> tuple[str, str] | None:
    step = max(1, -(-len(documents) // _DOCUMENTS))
    found = [_unread(document.text, read) for document in documents[::step]]
    with_letters = [script for script in found if script is not None]
    unread = sorted(script for script in with_letters if script)
    if 2 * len(unread) <= len(with_letters):
        return None
    return "most documents are", max(unread, key=unread.count)


def _unread(text: str, read: Set[str]) -> str | None:
    """The script of a text that the model does not read; empty where it does, None if the text has too few letters."""
    letters = letters_of(text[:_CHARACTERS])
    total = letters.total()
    if total < _FEWEST_LETTERS:
        return None
    unread = {script: count for script, count in letters.items() if script not in read}
    return max(unread, key=unread.__getitem__) if 2 * sum(unread.values()) > total else ""


def _message(model: str, languages: Sequence[str], what: str, script: str) -> str:
    advice = ""
    if script in SCRIPTS.values():
        package = first_party(_OTHER_MODEL)
        advice = f"; load {_OTHER_MODEL!r} (pip install {package}) or another model that reads it"
    listed = ", ".join(languages)
    return f"{what} written in {script} letters, which {model!r} (languages: {listed}) does not read{advice}"


def _log(message: str) -> None:
    # Importing it takes half as long as the rest of the core, and it is needed only here.
    import logging

    logging.getLogger("rerank_core").warning("%s", message)
