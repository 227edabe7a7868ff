"""A small notes API on the standard library."""
