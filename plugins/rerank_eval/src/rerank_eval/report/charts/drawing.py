"""From a chart to SVG inside HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from rerank_eval.report.visible import visible

if TYPE_CHECKING:
    import altair

__all__ = ["COLOURS", "colour", "colour_scale", "draw", "rows_as_data"]

COLOURS = 10
"""Colours of models that the style sheet defines as ``--k0`` and so on, for light and for dark pages."""

_INK = "currentColor"
_CONFIG: dict[str, Any] = {
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "gridColor": _INK,
        "domainColor": _INK,
        "tickColor": _INK,
        "gridOpacity": 0.14,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
    },
    "text": {"color": _INK, "fontSize": 12},
    "rule": {"color": _INK},
    "legend": {"disable": True},
}

_KEPT = {"svg", "g", "path", "line", "rect", "text", "tspan"}
# Presentation alone: nothing that refers to another resource or runs a script.
_ATTRIBUTES = {
    *("viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "width", "height"),
    *("fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linecap"),
    *("stroke-miterlimit", "opacity", "text-anchor", "font-size", "font-weight"),
}
_NOTHING = {("opacity", "1"), ("stroke-width", "1"), ("fill-opacity", "1"), ("stroke-opacity", "1")}


def colour(number: int) -> str:
    """The colour of the model with this number, as CSS writes it."""
    return f"var(--k{number % COLOURS})"


def colour_scale(keys: dict[str, int]) -> altair.Scale:
    """Colours of the models with these letters and numbers."""
    import altair

    return altair.Scale(domain=list(keys), range=[colour(number) for number in keys.values()])


def rows_as_data(rows: Sequence[Mapping[str, Any]]) -> altair.Data:
    """Rows as the data of a chart."""
    import altair as alt

    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]


def draw(chart: altair.LayerChart | altair.Chart, label: str) -> Markup:
    """The chart as an SVG element, scaled down where the page is narrower. A mark's description becomes its tooltip.

    Args:
        label: what a screen reader says. Texts inside the chart must be `visible`: the library ends the process at a
            character that XML has no place for.
    """
    import vl_convert

    specification = chart.to_dict()
    specification["config"] = _CONFIG
    return Markup(_inline(vl_convert.vegalite_to_svg(specification), visible(label)))


def _inline(svg: str, label: str) -> str:
    """The SVG with the elements and attributes that show something, without namespaces."""
    root = ElementTree.fromstring(svg)
    width = root.get("width", "0")
    _clean(root)
    root.attrib.pop("height", None)
    root.set("width", width)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element) -> None:
    element.tag = element.tag.rpartition("}")[2]
    title = element.get("aria-label") if "aria-roledescription" in element.attrib and element.tag != "g" else None
    element.attrib = {
        name: value
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and (name, value) not in _NOTHING and "url(" not in value
    }
    for child in list(element):
        if _shows(child):
            _clean(child)
        else:
            element.remove(child)
    if title:
        told = ElementTree.SubElement(element, "title")
        told.text = title
    if element.tag == "g":
        # Groups that hold nothing are a third of the file.
        for child in list(element):
            if child.tag == "g" and not len(child):
                element.remove(child)


def _shows(element: ElementTree.Element) -> bool:
    tag = element.tag.rpartition("}")[2]
    if tag not in _KEPT or element.get("display") == "none" or element.get("class") == "background":
        return False
    return not (tag == "path" and element.get("d") in (None, "", "M0,0h0v0h0Z"))
