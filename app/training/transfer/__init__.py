"""Transfer learning for a user's pictures: a shipped network as a frozen backbone, and a new head trained on its
features.
"""
