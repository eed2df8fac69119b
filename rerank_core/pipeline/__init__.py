"""The path of every call: requests, plan, forward passes, ranking."""
