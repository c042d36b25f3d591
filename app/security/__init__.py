"""Authorization, tokens, rate limits, and the URLs that a server may fetch. No HTTP in it."""
