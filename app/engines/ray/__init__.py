"""The same models on more than one machine: a Ray Serve deployment each, asked through a handle.

    front's process                      gateway, its child                a node
    RayEngine -> Link  ==(pipe)==>  gateway.py -> Serve's handle  ==>  replica.py -> engine

A front never imports Ray. Ray ends a process whose head is lost, so that a child does what needs Ray, and is started
again. What is deployed is decided in one place of the cluster, the actor of ``registrar.py``.
"""
