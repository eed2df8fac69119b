"""The configuration of a run: settings and defaults, parsing of YAML and --set, limits of the values."""
