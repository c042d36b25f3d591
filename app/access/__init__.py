"""Who may do what, and how often: tokens, roles, rates. No HTTP in it."""
