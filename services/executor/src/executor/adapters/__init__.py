"""Everything outside: providers by their own SDKs, and working trees on disk."""
