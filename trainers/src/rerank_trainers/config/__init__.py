"""The settings of a run: their types, how they are parsed, and which values are refused."""
