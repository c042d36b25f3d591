"""Models served from more than one machine: one Ray Serve deployment per model, called through a handle.

    server process                       its child               node
    RayEngine -> BridgeClient  ==(pipe)==>  bridge.py -> handle  ==>  replica.py -> engine

A server process never imports Ray. Ray kills a process that loses the head, so a child process does everything that
needs Ray, and is restarted. One actor per cluster, in ``deployer.py``, decides what is deployed.
"""
