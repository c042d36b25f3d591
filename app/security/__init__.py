"""Authorization, tokens, rate limits, and the policy of URLs that a server may fetch; without HTTP."""
