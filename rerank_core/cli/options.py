"""Command-line options that several commands share, and the parser of ``--option KEY=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

__all__ = [
    "AsJson",
    "Device",
    "Dtype",
    "Encoding",
    "LongDocs",
    "MaxLength",
    "ModelOptions",
    "Threads",
    "TokenBudget",
    "load_options",
]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Encoding of files that are not UTF-8, such as gb18030 or cp1252."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the model runs: cpu, cuda, cuda:1 (or 1) or mps; by default the fastest available. Several devices "
        "get a copy each: cuda:0,cuda:1, or cuda:all."
    ),
]
Dtype = Annotated[str | None, typer.Option(help="Precision: float32 (default), float16, bfloat16, or int8 (CPU only).")]
Threads = Annotated[
    int | None, typer.Option(help="Threads on the CPU; by default one for each core that the process may use.")
]
TokenBudget = Annotated[
    int | None, typer.Option(help="Most tokens in one forward pass; by default chosen for the device.")
]
LongDocs = Annotated[
    str | None,
    typer.Option(
        help="How long documents are scored: firstp (first passage only), maxp (best passage), meanp (mean of all "
        "passages) or kmaxp:K (mean of the best K passages; kmaxp: 3); by default as the model declares."
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(help="Most tokens of one passage, query and template included; by default the model's own limit."),
]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="Set any other option of the model; can be repeated. VALUE is read as JSON, or else as a string. "
        "`rerank models NAME` lists the options.",
    ),
]
_OPTION_FLAGS = "'--option' / '-o'"


def load_options(flags: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The options of ``load``: the flags that were given, and the ``KEY=VALUE`` assignments.

    No message repeats a value, which may be an API key.

    Args:
        flags: value of each flag by the name of its option; None where the flag was not given.

    Raises:
        typer.BadParameter: an assignment without ``=`` or without a key, an option that is set twice, or a value that
            is nested too deeply.
    """
    options = {name: value for name, value in flags.items() if value is not None}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise typer.BadParameter("an option must be KEY=VALUE, for example layer=28", param_hint=_OPTION_FLAGS)
        if key in options:
            raise typer.BadParameter(f"{key!r} is given twice; give it once", param_hint=_OPTION_FLAGS)
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
        except RecursionError as error:
            raise typer.BadParameter(f"the value of {key!r} is nested too deeply", param_hint=_OPTION_FLAGS) from error
    return options
