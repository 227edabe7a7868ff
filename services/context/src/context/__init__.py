"""Pins the base commit of a task and gathers the parts of the repository that its models will read.

Never writes to a repository, and never passes on a secret that it recognises.
"""
