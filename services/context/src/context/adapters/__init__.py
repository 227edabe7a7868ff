"""Where context touches the world outside: repositories."""
