"""The page: templates, style sheet and script as one text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rerank_eval.advice.advice import Advice
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.report.labels import Labels
from rerank_eval.report.method import method_of
from rerank_eval.report.overview import overview_of
from rerank_eval.report.sections import Section
from rerank_eval.report.sentences import headline, sentences
from rerank_eval.report.visible import language, visible
from rerank_eval.report.wording import bounds, count, milliseconds, plus, share, value

if TYPE_CHECKING:
    from jinja2 import Environment

    from rerank_core.measures import Interval

__all__ = ["page_of"]


def page_of(evaluation: Evaluation, sections: Sequence[Section], labels: Labels, shown: int, advice: Advice) -> str:
    """The HTML.

    Args:
        shown: queries of each list that are shown with texts, at most.
        advice: what the page begins with.
    """
    style, script = _file("style.css"), _file("script.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            sections=sections,
            labels=labels,
            overview=overview_of(evaluation, sections) if len(sections) > 1 else None,
            method=method_of(evaluation),
            shown=shown,
            advice=advice,
            headline=headline,
            sentences=sentences,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
        )
    )


def _policy(style: str, script: str) -> str:
    """The content security policy: this style sheet and this script, and nothing that is loaded from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return (files("rerank_eval.report") / "templates" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {"bounds": bounds, "count": count, "plus": plus, "share": share, "value": value}
    environment.filters |= {"milliseconds": milliseconds, "signed_bounds": _signed_bounds, "cut": _cut}
    environment.globals["lang"] = _lang
    return environment


def _finalize(shown: Any) -> Any:
    """Each value that a template shows: hidden characters of a text are spelt out; HTML of ours stays."""
    return visible(shown) if isinstance(shown, str) and not isinstance(shown, Markup) else shown


def _signed_bounds(interval: Interval) -> str:
    return bounds(interval, signed=True)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({limit} of {count(len(text))} characters)"


def _lang(text: str) -> Markup:
    """The attribute for texts in Chinese, which choose other shapes of letters than Japanese ones."""
    code = language(text)
    return Markup(f' lang="{code}"') if code else Markup()
