"""Ordering a list with a chat model: prompts, sliding window, parsing of answers, local models and endpoints."""
