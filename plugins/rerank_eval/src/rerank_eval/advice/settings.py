"""Which ``longdoc``, ``dtype`` and ``cascade`` the choice should have, as far as the runs show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rerank_core import models
from rerank_eval.advice.advice import Setting
from rerank_eval.advice.contenders import Contender, Pair
from rerank_eval.runs.model_run import ModelRun

__all__ = ["settings_of"]

# Share of long documents below which their treatment cannot move a mean by much.
_FEW = 0.01


def settings_of(
    choice: Contender, contenders: Sequence[Contender], pairs: Mapping[tuple[str, str], Pair]
) -> list[Setting]:
    """The settings that matter for the choice, each with what the runs show about it, or what to run to know.

    Runs of the same source whose options differ in one option alone show what that option does.

    Args:
        contenders: all models with figures, those over the budget too.
    """
    run = _run_of(choice)
    if run is None:
        return []
    found = []
    for name, unmeasured in (("longdoc", _longdoc), ("dtype", _dtype), ("cascade", _cascade)):
        value = _value(run, name)
        others = [one for one in contenders if _differs_only_in(name, run, _run_of(one))]
        if others:
            own = [_compared(name, choice, one, pairs[choice.name, one.name]) for one in others]
            found.append(Setting(name, value, True, "; ".join(own)))
        elif (setting := unmeasured(choice, run, value)) is not None:
            found.append(setting)
    return found


def _compared(name: str, choice: Contender, other: Contender, pair: Pair) -> str:
    own, difference = _run_of(other), pair.difference
    value = _value(own, name) if own else ""
    return (
        f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] against {value}, with "
        f"{choice.median_ms:,.0f} ms instead of {other.median_ms:,.0f}"
    )


def _longdoc(choice: Contender, run: ModelRun, value: str) -> Setting | None:
    runs = [row.run for row in choice.rows.values() if row.run is not None]
    queries = [query for one in runs for query in one.queries]
    documents = sum(len(query.scores) for query in queries)
    if not documents or run.facts.device is None:
        return None
    windows = sum(len(query.passages) for query in queries) / documents
    cut = sum(len(query.truncated) for query in queries) / documents
    if not windows and not cut:
        return Setting("longdoc", value, True, "every document fits into one row, so that longdoc changes nothing here")
    if windows + cut < _FEW:
        text = f"{windows + cut:.1%} of the documents are longer than a row, so that longdoc hardly matters here"
        return Setting("longdoc", value, True, text)
    if windows >= cut:
        text = f"{windows:.1%} of the documents were read in several windows; run also {_with(run, 'longdoc=firstp')}"
        return Setting("longdoc", value, False, f"{text}, which takes less time, to know what that gains")
    text = f"{cut:.1%} of the documents were not read to their end; run also {_with(run, 'longdoc=maxp')}"
    return Setting("longdoc", value, False, f"{text} to know what that costs")


def _dtype(choice: Contender, run: ModelRun, value: str) -> Setting | None:
    if run.facts.device is None:  # a remote model, or one without weights
        return None
    fast = "bfloat16" if run.facts.device.startswith("cuda") else "int8"
    if value == fast:
        text = f"only {value} was run; run also {_with(run, 'dtype=float32')} to know what {value} costs in quality"
    else:
        text = f"only {value} was run; run also {_with(run, f'dtype={fast}')}, which takes less time"
    return Setting("dtype", value, False, text)


def _cascade(choice: Contender, run: ModelRun, value: str) -> Setting | None:
    spec = next((one for one in models() if run.source in (one.name, one.checkpoint, *one.aliases)), None)
    if spec is None or all(option.name != "cascade" for option in spec.options):
        return None
    example = 'cascade={"8":30}'
    other = "without cascade" if value != "none" else f"with a cascade, such as {_with(run, example)}"
    return Setting(
        "cascade", value, False, f"the model can score most documents at an early layer; run it also {other}"
    )


def _run_of(model: Contender) -> ModelRun | None:
    return next((row.run for row in model.rows.values()), None)


def _value(run: ModelRun, name: str) -> str:
    if name == "dtype":
        return str(run.facts.dtype or run.options.get("dtype", "float32"))
    default = {"longdoc": "default", "cascade": "none"}[name]
    return str(run.options.get(name) or default)


def _differs_only_in(name: str, run: ModelRun, other: ModelRun | None) -> bool:
    if other is None or other.source != run.source:
        return False
    mine, theirs = ({key: value for key, value in one.options.items() if key != name} for one in (run, other))
    return mine == theirs and run.options.get(name) != other.options.get(name)


def _with(run: ModelRun, option: str) -> str:
    """The model as ``--model`` takes it, with a further option."""
    key = option.partition("=")[0]
    own = [f"{name}={_plain(value)}" for name, value in run.options.items() if name != key]
    return f"--model '{','.join([run.source, *own, option])}'"


def _plain(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
