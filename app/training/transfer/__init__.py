"""Transfer learning on a user's pictures: a shipped network as frozen backbone, a new head trained on its features."""
