"""Ordering a list with a chat model: prompts, the sliding window, what an answer says, and who is asked."""
