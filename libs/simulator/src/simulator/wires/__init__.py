"""The providers' wire protocols: each module reads requests and writes answers in the words of one of them. Pure."""
