"""Projects the log into the token ledger, and answers questions from it. It decides nothing and holds no secret."""
