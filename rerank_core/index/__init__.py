"""Documents encoded before any query is known, and explanations of late-interaction scores."""
