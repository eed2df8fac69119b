"""Numbers as the report writes them."""

from __future__ import annotations

from rerank_core.measures import Interval

__all__ = [
    "bounds",
    "count",
    "milliseconds",
    "plus",
    "probability",
    "share",
    "short_count",
    "storage",
    "tie_rule",
    "value",
]


def value(number: float) -> str:
    """A metric, to three decimals.

    >>> value(0.74651)
    '0.747'
    """
    return f"{number:.3f}"


def plus(number: float) -> str:
    """A difference, with its sign.

    >>> plus(-0.0216), plus(0.0)
    ('−0.022', '+0.000')
    """
    return ("−" if round(number, 3) < 0 else "+") + f"{abs(number):.3f}"


def bounds(interval: Interval, *, signed: bool = False) -> str:
    """The bounds of an interval.

    >>> bounds(Interval(0.5, 0.4, 0.6)), bounds(Interval(0.5, -0.4, 0.6), signed=True)
    ('[0.400, 0.600]', '[−0.400, +0.600]')
    """
    form = plus if signed else value
    return f"[{form(interval.low)}, {form(interval.high)}]"


def probability(p: float) -> str:
    """A p-value.

    >>> probability(0.0002), probability(0.0412)
    ('p < 0.001', 'p = 0.041')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def share(part: float) -> str:
    """A share in percent.

    >>> share(0.1234), share(0.0), share(0.0004)
    ('12 %', '0 %', '< 1 %')
    """
    return "< 1 %" if 0 < part < 0.01 else f"{100 * part:.0f} %"


def milliseconds(ms: float) -> str:
    """A time, in seconds from one second.

    >>> milliseconds(3.21), milliseconds(48.3), milliseconds(1234.0)
    ('3.2 ms', '48 ms', '1.2 s')
    """
    if ms >= 1000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def count(number: float) -> str:
    """A number of things.

    >>> count(12345)
    '12,345'
    """
    return f"{number:,.0f}"


def short_count(number: float) -> str:
    """A large number, to two or three digits.

    >>> short_count(950), short_count(22_300_000), short_count(7.6e9)
    ('950', '22 M', '7.6 B')
    """
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f} {letter}" if scaled < 10 else f"{scaled:.0f} {letter}"
    return f"{number:.0f}"


def storage(number: float) -> str:
    """Bytes of memory.

    >>> storage(412_000_000), storage(1.61e9)
    ('412 MB', '1.6 GB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def tie_rule(metric: str) -> str:
    """How a metric orders documents of equal score.

    >>> tie_rule("map")
    'documents of equal score count as one block'
    """
    if metric == "map":
        return "documents of equal score count as one block"
    return "of documents of equal score the less relevant is first"
