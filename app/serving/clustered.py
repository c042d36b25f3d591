"""What of all that is registered the cluster computes."""

from __future__ import annotations

from pathlib import Path

from app.cluster.installed import on_cluster
from app.cluster.plan import Scale
from app.errors import ModelFormatError
from app.serving.handled import own_handler
from app.serving.startup import told_models
from app.serving.store import Registration, Store
from app.settings import Settings


def scale_of(told: Registration, settings: Settings) -> Scale:
    """A model's numbers in the cluster's terms."""
    return Scale(
        told.min_workers, told.max_workers, told.batch_size, told.max_batch_delay, waiting=settings.job_queue_size
    )


def clustered(settings: Settings) -> list[tuple[str, Path, Scale]]:
    """The models that this server would let a cluster compute, were there one: name, folder and numbers. Those with
    code of their own stay here.

    :raises SettingError: where the registrations cannot be read.
    """
    store = Store(settings.instance_dir / "registry.sqlite3")
    try:
        known = store.all()
        told = {one.registration.name: one.registration for one in told_models(settings, store) if not one.failure}
    finally:
        store.close()
    every = {**told, **known}
    return [
        (one.name, Path(one.path), scale_of(one, settings))
        for _, one in sorted(every.items())
        if not one.removed and on_cluster(one.name, settings, whatever=True) and not _has_code(one, settings)
    ]


def _has_code(told: Registration, settings: Settings) -> bool:
    try:
        return own_handler(Path(told.path), told.handler, settings.default_service_handler) is not None
    except ModelFormatError:
        return True  # whoever loads it will be told what is wrong
