"""Archives that either packer made, in both servers: the same classes, and probabilities within 1e-4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.parity.answer import Answer, of_document
from bench.parity.check import Check, describe, form, manage, predict, probe
from bench.parity.nets import SIDES
from bench.parity.peer import Peer

PACKERS = {"theirs": "model-archiver", "ours": "Dimple's model-archiver"}
NO_PICTURES = {"empty": b"", "broken": b"this is no picture", "cut": b"\xff\xd8\xff\xe0 and no more"}


def of_archives(pictures: Mapping[str, bytes], nets: Sequence[str]) -> list[Check]:
    """Return a check of every network of each packer with every picture.

    :param pictures: name -> the file.
    :param nets: names of the networks that the store has archives of.
    """
    found = []
    for net in nets:
        for packer in PACKERS:
            found += _of(f"{packer}-{net}", net, pictures)
    legacy = ["tiny_legacy", *(["squeezenet_legacy"] if len(nets) > len(NETS) else [])]
    return [*found, *(check for name in legacy for check in _legacy(name, pictures)), *ODD]


def _of(archive: str, name: str, pictures: Mapping[str, bytes]) -> list[Check]:
    at = f"archives.{archive}"
    first = next(iter(pictures.values()))
    body, kind = form({"data": ("picture.jpg", "image/jpeg", first)})
    jpeg = {"Content-Type": "image/jpeg"}
    return [
        manage(f"{at}-register", f"POST /models?url={archive}.mar&initial_workers=1", 200, "Workers scaled"),
        describe(f"{at}-describe", f"{name}", f'"modelUrl": "{archive}.mar"'),
        *(predict(f"{at}-{picture}", f"POST /predictions/{name}", 200, "probability", content, jpeg)
          for picture, content in pictures.items()),
        predict(f"{at}-put", f"PUT /predictions/{name}", 200, "probability", first),
        predict(f"{at}-form", f"POST /predictions/{name}", 200, "probability", body, kind),
        predict(f"{at}-legacy-route", f"POST /{name}/predict", 200, "probability", body, kind),
        predict(f"{at}-invocations", f"POST /invocations?model_name={name}", 200, "probability", first, jpeg),
        manage(f"{at}-unregister", f"DELETE /models/{name}", 200, "unregistered"),
    ]  # fmt: skip


def own_processes(peer: Peer, model: str) -> Answer:
    """Return whether a network without code of its own takes processes."""
    before = peer.processes()
    peer.ask("POST", f"/models?url={model}.model&initial_workers=1", management=True)
    after = peer.processes()
    peer.ask("DELETE", f"/models/{model}", management=True)
    return of_document({"processes of its own": after > before})


def _legacy(model: str, pictures: Mapping[str, bytes]) -> list[Check]:
    """Return a check of an archive of 0.x that has no code but the service that comes with every export."""
    first = next(iter(pictures.values()))
    jpeg = {"Content-Type": "image/jpeg"}
    body, kind = form({"data": ("picture.jpg", "image/jpeg", first)})
    at, route = f"archives.{model}", f"POST /predictions/{model}"
    return [
        manage(f"{at}-register", f"POST /models?url={model}.model&initial_workers=1", 200, "Workers scaled"),
        describe(f"{at}-describe", model, "snapshot"),
        *(predict(f"{at}-{name}", route, 200, "probability", picture, jpeg) for name, picture in pictures.items()),
        predict(f"{at}-form", f"POST /{model}/predict", 200, "probability", body, kind),
        *(predict(f"{at}-{name}", route, 503, "Prediction failed", content, jpeg)
          for name, content in NO_PICTURES.items()),
        manage(f"{at}-unregister", f"DELETE /models/{model}", 200, "unregistered"),
        probe(f"{at}-processes", "registered again: are there more processes than before?",
              lambda peer: own_processes(peer, model)),
    ]  # fmt: skip


ODD = [
    manage("archives.zipped", "POST /models?url=noop-zipped.mar&initial_workers=1", 200, "Workers scaled"),
    predict("archives.zipped-answers", "POST /predictions/noop_zipped", 200, "OK", b"x"),
    manage("archives.zipped-again", "POST /models?url=noop-zipped.mar&model_name=twin&initial_workers=1", 200),
    manage("archives.zipped-list", "GET /models", 200, '"twin"'),
    manage("archives.zipped-unregister", "DELETE /models/noop_zipped", 200),
    predict("archives.zipped-twin-answers", "POST /predictions/twin", 200, "OK", b"x"),
    manage("archives.zipped-twin-unregister", "DELETE /models/twin", 200),
    manage("archives.nested-legacy", "POST /models?url=nested.model&initial_workers=1", 200, "Workers scaled",
           drops="noop_v0.1"),
    manage("archives.slip", "POST /models?url=slip.mar", 200, "registered", drops="slip"),
    manage("archives.leading-slash", "POST /models?url=/noop-zipped.mar", 200, "registered", drops="noop_zipped"),
    manage("archives.trailing-slash", "POST /models?url=noop-v0.1/", 200, "registered", drops="noop_v0.1"),
]  # fmt: skip
NETS = tuple(SIDES)
