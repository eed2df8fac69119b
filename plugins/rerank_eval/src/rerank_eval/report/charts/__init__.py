"""The plots of the report, drawn by Vega-Lite as static SVG that takes its colours from the page."""
