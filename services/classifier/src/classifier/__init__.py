"""Says what type and scope a task has, and which of its words said so.

Never fails on a text, whatever is in it, and never asks a model.
"""
