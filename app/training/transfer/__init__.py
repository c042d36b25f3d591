"""A classifier for anybody's pictures: a shipped network as a frozen body, and a new head trained on what it sees."""
