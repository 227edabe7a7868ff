"""The audit's database. The only place with SQL."""
