"""From a handler's name to a loaded service."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

from mms.metrics.metrics_store import MetricsStore
from mms.service import Service

MANIFEST, OLD_MANIFEST = "MAR-INF/MANIFEST.json", "MANIFEST.json"


class ModelLoader:
    """What both loaders are.

    :param manifest: the archive's manifest; None reads it from the model's folder.
    """

    def __init__(self, manifest: dict[str, Any] | None = None) -> None:
        self.manifest = manifest

    def load(self, model_name: str, model_dir: str, handler: str, gpu_id: int | None, batch_size: int) -> Service:
        """Import the archive's code and let it load its model.

        :param handler: what the manifest names.
        :raises Exception: whatever the archive's code raises.
        """
        raise NotImplementedError

    @staticmethod
    def list_model_services(module: ModuleType, parent_class: type | None = None) -> list[type]:
        """Return the classes that a module defines itself, in its order."""
        own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
        return [one for one in dict.fromkeys(own) if parent_class is None or issubclass(one, parent_class)]


class MmsModelLoader(ModelLoader):
    """Archives of version 1.0: ``module:function``, or a module with one class."""

    def load(self, model_name: str, model_dir: str, handler: str, gpu_id: int | None, batch_size: int) -> Service:
        """Import the module, and call the function once without data or ``initialize`` of the class.

        As in Multi Model Server, a class whose ``initialize`` raises counts as loaded; the error is logged and kept as
        ``service.load_warning``.

        :param handler: ``module[:function]``, ``handle`` where no function is named. A module may be given as a path.
        """
        path, _, function = handler.partition(":")
        module = importlib.import_module(path.removesuffix(".py").split("/")[-1])
        manifest = self.manifest or read_manifest(Path(model_dir, MANIFEST))
        found = getattr(module, function or "handle", None)
        instance = None if found is not None else self._only_class(module)()
        entry_point: Any = found if instance is None else instance.handle
        service = Service(model_name, model_dir, manifest, entry_point, gpu_id, batch_size)
        service.context.metrics = MetricsStore(str(uuid.uuid4()), model_name)
        if instance is None:
            service.handle(None)
        else:
            _initialize(instance, service)
        return service

    def _only_class(self, module: ModuleType) -> Any:
        classes = self.list_model_services(module)
        if len(classes) != 1:
            raise ValueError(f"Expected only one class in custom service code or a function entry point {classes}")
        return classes[0]


class LegacyModelLoader(ModelLoader):
    """Archives of version 0.x: a file with a subclass of ``SingleNodeService``."""

    def load(self, model_name: str, model_dir: str, handler: str, gpu_id: int | None, batch_size: int) -> Service:
        """Import the file and construct the first of its services that no other of them builds upon.

        :param handler: the file's name, with or without ``.py``.
        """
        from mms.model_service.model_service import SingleNodeService

        given = self.manifest if self.manifest and "Model" in self.manifest else None  # not one converted to 1.0
        manifest = given or read_manifest(Path(model_dir, OLD_MANIFEST))
        module = _module_of(Path(model_dir, handler.partition(":")[0].removesuffix(".py") + ".py"))
        classes = self.list_model_services(module, SingleNodeService)
        last = [one for one in classes if not any(one in other.__mro__[1:] for other in classes)]
        if not last:
            raise ValueError(f"{module.__file__} defines no subclass of SingleNodeService")
        constructor: Any = last[0]
        instance = constructor(model_name, model_dir, manifest, gpu_id)
        service = Service(model_name, model_dir, manifest, instance.handle, gpu_id, batch_size)
        instance.initialize(service.context)
        return service


class ModelLoaderFactory:
    """Chooses the loader."""

    @staticmethod
    def get_model_loader(model_dir: str) -> ModelLoader:
        """Return the loader for a folder, by its manifest."""
        old = Path(model_dir, OLD_MANIFEST).exists() and not Path(model_dir, MANIFEST).exists()
        return LegacyModelLoader() if old else MmsModelLoader()


def read_manifest(path: Path) -> Any:
    """Return the manifest's content, or None."""
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _initialize(instance: Any, service: Service) -> None:
    try:
        instance.initialize(service.context)
    except MemoryError:
        raise  # the machine has too little memory now; the server tries again
    except Exception as error:
        logging.exception("initialize failed; the model counts as loaded")
        service.load_warning = f"initialize failed: {type(error).__name__}: {error}"


def _module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
