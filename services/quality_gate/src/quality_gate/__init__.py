"""Judges a change in a sandbox."""
