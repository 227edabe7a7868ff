"""Where pull requests are opened: GitHub, or a record in a local repository."""
