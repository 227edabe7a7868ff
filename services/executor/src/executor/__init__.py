"""The executor: asks one model to do a phase, and reports what it cost and what came of it."""
