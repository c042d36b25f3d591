"""Models that a Ray cluster computes: one Ray Serve application for each, reached through Serve's HTTP proxies.

    HTTP worker                       node
    RayEngine -> ServeClient  ==(HTTP)==>  Serve's proxy -> replica.py -> engine

Only ``replica.py`` imports Ray, and only Ray imports ``replica.py``. ``serve_config.py`` writes the file that ``serve
deploy`` reads; nodes are started and stopped by ``ray start`` and ``ray stop`` (docs/scaling.md).
"""
