"""The numbers behind each plot and table of the report, from an `Evaluation`; nothing here draws."""
