"""Opens the pull request: the only holder of the right to write to a repository."""
