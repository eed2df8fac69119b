"""Hook specifications, discovery of installed plugins, and the registry of model names."""
