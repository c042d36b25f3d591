from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from app.engines.mxnet.compat import prepare
from app.errors import BadParameter, DataError
from app.formats.folder import open_model_folder
from app.formats.pictures import open_pictures
from app.serving.model import Model, open_model
from app.serving.pipeline import answer, open_picture
from app.settings import PictureLimits
from app.training.transfer.features import cut_backbone
from app.training.transfer.head import Choice, Head
from app.training.transfer.run import TransferJob, TransferResult, check_target, export, find_classes, train
from app.vision.preprocess import to_tensor
from app.zoo.imagenet import ensure_imagenet
from tests.training.transfer.shapes import CLASSES, draw, write_shapes


def fill(folder: Path, **counts: int) -> Path:
    """Write empty files that have pictures' names: these tests do not read them."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.jpg").touch()
    return folder


def refusal(path: Path, folds: int = 5) -> str:
    with open_pictures(path) as source, pytest.raises(DataError) as error:
        find_classes(source, folds)
    return str(error.value)


def test_folders_are_classes_sorted_by_name(tmp_path: Path) -> None:
    with open_pictures(fill(tmp_path, cat=5, ant=6)) as source:
        found = find_classes(source, 5)
    assert found.labels == ("ant", "cat")
    assert [number for _, number in found.pictures] == [0] * 6 + [1] * 5
    assert found.pictures[6] == ("cat/0.jpg", 1)


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    assert "one class only, 'cat'" in refusal(fill(tmp_path, cat=9))


def test_an_empty_class_and_a_small_one_are_named_with_their_counts(tmp_path: Path) -> None:
    message = refusal(fill(tmp_path, ant=0, bee=4, cat=5))
    assert "'ant' (none), 'bee' (4)." in message
    assert "cat" not in message


def test_more_folds_than_pictures_of_a_class_are_refused(tmp_path: Path) -> None:
    message = refusal(fill(tmp_path, ant=7, bee=20), folds=8)
    assert "'ant' (7)" in message
    assert "--folds 7" in message


def test_many_small_classes_are_not_all_listed(tmp_path: Path) -> None:
    message = refusal(fill(tmp_path, **{f"class{number:04}": 1 for number in range(30)}))
    assert "and 25 more classes" in message


def test_folder_names_that_differ_only_in_spaces_or_unicode_form_conflict(tmp_path: Path) -> None:
    message = refusal(fill(tmp_path / "spaces", **{"cat": 5, "cat ": 5}))
    assert "'cat' and 'cat '" in message
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert "both name the class 'caf\u00e9'" in refusal(fill(tmp_path / "accents", **{composed: 5, decomposed: 5}))


def test_a_folder_name_with_a_line_break_cannot_name_a_class(tmp_path: Path) -> None:
    assert "'a\\nb'" in refusal(fill(tmp_path, **{"a\nb": 5, "c": 5}))


def test_pictures_outside_any_class_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, ant=5, bee=5)
    (tmp_path / "stray.jpg").touch()
    assert "stray.jpg" in refusal(tmp_path)


def test_a_zip_may_have_more_than_a_thousand_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(1_200):
            for picture in range(5):
                archive.writestr(f"all/class{number:04}/{picture}.jpg", b"")
    with open_pictures(tmp_path / "many.zip") as source:
        found = find_classes(source, 5)
    assert len(found.labels) == 1_200
    assert len(found.pictures) == 6_000


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", ".a", "a/b", "ä", "a" * 101])
def test_an_invalid_model_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="NAME="):
        check_target(name, tmp_path, force=True)


@pytest.mark.parametrize("name", ["imagenet", "smile", "dogcat", "DogCat"])
def test_included_models_are_never_replaced(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="ships"):
        check_target(name, tmp_path, force=True)


@pytest.mark.parametrize("metrics", ["", "{", "[]", '{"how": "by hand"}'])
def test_a_model_of_another_origin_is_replaced_only_with_force(metrics: str, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "metrics.json").write_text(metrics)
    with pytest.raises(BadParameter, match="--force"):
        check_target("pets", tmp_path, force=False)
    check_target("pets", tmp_path, force=True)


def test_a_model_of_this_command_and_a_new_name_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "metrics.json").write_text(json.dumps({"made_by": "flask models train"}))
    check_target("pets", tmp_path, force=False)
    check_target("others", tmp_path / "not-yet", force=False)


def test_a_file_or_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BadParameter, match="no folder of its own"):
            check_target(name, tmp_path, force=True)


LIMITS = PictureLimits(1_000_000)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> TransferJob:
    """Return a job with three classes of eight pictures, and two files that are no pictures."""
    work = tmp_path_factory.mktemp("transfer")
    shapes = write_shapes(work / "shapes")
    (shapes / "discs" / "broken.jpg").write_bytes(b"no picture")
    (shapes / "noise" / "empty.png").touch()
    models_dir = work / "models"
    return TransferJob("shapes", shapes, ensure_imagenet(models_dir), models_dir, folds=2, limits=LIMITS)


@pytest.fixture(scope="module")
def trained(order: TransferJob) -> TransferResult:
    return train(order)


@pytest.fixture(scope="module")
def model(trained: TransferResult) -> Iterator[Model]:
    model = open_model(open_model_folder(trained.folder), "mxnet")
    yield model
    model.engine.close()


def metrics_of(trained: TransferResult) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((trained.folder / "metrics.json").read_text())
    return metrics


def params_of(trained: TransferResult) -> bytes:
    return (trained.folder / "shapes-0000.params").read_bytes()


def tensors(order: TransferJob, images: list[Image.Image]) -> Any:
    signature = cut_backbone(order.body).signature
    return np.concatenate([to_tensor(image, signature.preprocess, signature.inputs[0].shape) for image in images])


def features_by_mxnet(order: TransferJob, images: Any) -> Any:
    """Return the output of the last pooling of the whole imagenet network, by MXNet's own means."""
    prepare()
    import mxnet as mx

    symbol, arguments, states = mx.model.load_checkpoint(str(order.body / "imagenet"), 0)
    layer = symbol.get_internals()["flatten_output"]
    known = {name: array for name, array in arguments.items() if name in layer.list_arguments()}
    executor = layer.bind(mx.cpu(), {**known, "data": mx.nd.array(images)}, grad_req="null", aux_states=states)
    return executor.forward(is_train=False)[0].asnumpy()


def test_the_server_matches_scikit_learn_on_the_features_of_mxnet(
    order: TransferJob, trained: TransferResult, model: Model
) -> None:
    choice = metrics_of(trained)
    seen = tensors(order, [draw(kind, number) for kind in CLASSES for number in range(8)])
    classes = np.repeat([0, 1, 2], 8)
    features = features_by_mxnet(order, seen).astype(np.float64)
    if choice["mirrored"]:
        features = np.concatenate([features, features_by_mxnet(order, seen[:, :, :, ::-1])])
        classes = np.concatenate([classes, classes])
    mean, deviation = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    weight = choice["c"] / (2 if choice["mirrored"] else 1)
    reference = LogisticRegression(C=weight, tol=1e-9, max_iter=10_000).fit((features - mean) / deviation, classes)

    unseen = tensors(order, [draw(kind, 100) for kind in CLASSES])
    expected = reference.predict_proba((features_by_mxnet(order, unseen) - mean) / deviation)
    assert model.probabilities(unseen) == pytest.approx(expected, abs=1e-5)


def test_an_unseen_picture_is_classified_correctly_by_the_serving_code(model: Model) -> None:
    for kind in CLASSES:
        file = io.BytesIO()
        draw(kind, 200).save(file, "PNG")
        with open_picture(file.getvalue(), LIMITS) as picture:
            result = answer(model, picture)
        assert result.predictions[0].label == kind
        assert sum(prediction.probability for prediction in result.predictions) == pytest.approx(1, abs=1e-6)


def test_the_signature_equals_that_of_the_body_except_for_the_classes(order: TransferJob, model: Model) -> None:
    whole = open_model_folder(order.body).signature
    assert whole is not None
    assert (model.preprocess, model.input) == (whole.preprocess, whole.inputs[0])
    assert model.labels == CLASSES
    assert model.kind == "mxnet"


def test_mxnet_opens_the_checkpoint(order: TransferJob, trained: TransferResult, model: Model) -> None:
    prepare()
    import mxnet as mx

    symbol, arguments, states = mx.model.load_checkpoint(str(trained.folder / "shapes"), 0)
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind([("data", (3, 3, 224, 224))], for_training=False)
    module.set_params(arguments, states)  # refuses what is missing
    unseen = tensors(order, [draw(kind, 100) for kind in CLASSES])
    module.forward(mx.io.DataBatch([mx.nd.array(unseen)]), is_train=False)
    rows = module.get_outputs()[0].asnumpy()
    assert rows.shape == (3, 3)
    assert rows == pytest.approx(model.probabilities(unseen), abs=1e-5)
    assert set(arguments) | set(states) == {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}


def test_the_metrics_state_how_they_were_computed(trained: TransferResult) -> None:
    metrics = metrics_of(trained)
    assert metrics["how"] == "2-fold cross-validation"
    assert metrics["n"] == 24
    assert [metric["support"] for metric in metrics["classes"]] == [8, 8, 8]
    assert [sum(row) for row in metrics["confusion"]] == [8, 8, 8]
    assert metrics["accuracy"] == sum(metrics["confusion"][i][i] for i in range(3)) / 24
    assert len(metrics["folds"]) == 2
    assert metrics["accuracy"] == pytest.approx(sum(metrics["folds"]) / 2)  # of twelve pictures each
    assert metrics["accuracy"] >= 0.9  # the shapes are easy to tell apart
    assert metrics["body"] == "imagenet 1.0"


def test_unreadable_files_are_named_counted_and_skipped(trained: TransferResult) -> None:
    assert trained.skipped == ("discs/broken.jpg", "noise/empty.png")
    assert metrics_of(trained)["skipped"] == 2


@pytest.mark.slow  # so does test_train_replaces_only_models_of_its_own, of the command
def test_the_same_pictures_and_seed_give_the_same_bytes(
    order: TransferJob, trained: TransferResult, tmp_path: Path
) -> None:
    again = train(replace(order, models_dir=tmp_path))
    assert params_of(again) == params_of(trained)
    assert os.listdir(tmp_path) == ["shapes"]


@pytest.mark.slow
def test_a_zip_of_the_folder_gives_the_same_bytes(order: TransferJob, trained: TransferResult, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "shapes"), "zip", order.source))
    again = train(replace(order, source=packed, models_dir=tmp_path / "models"))
    assert params_of(again) == params_of(trained)


@pytest.mark.slow
def test_copies_of_a_picture_are_in_one_fold(order: TransferJob, trained: TransferResult, tmp_path: Path) -> None:
    source = tmp_path / "copies"
    shutil.copytree(order.source, source)
    for number in (1, 2, 3):
        shutil.copy(source / "discs" / "0.png", source / "discs" / f"copy{number}.png")
    again = train(replace(order, source=source, models_dir=tmp_path / "models"))
    assert metrics_of(again)["near_identical"] == 4
    assert metrics_of(again)["n"] == 27


def test_near_identical_pictures_of_a_fixed_camera_can_be_learned(
    order: TransferJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All pictures are near-identical: keeping them in one fold would leave none to validate."""
    scene = draw("discs", 0)
    for kind, spot in (("defect", (200, 0, 0)), ("fine", (0, 0, 200))):
        (tmp_path / "scene" / kind).mkdir(parents=True)
        for number in range(6):
            image = scene.copy()
            image.paste(spot, (10 + number, 10, 13 + number, 13))
            image.save(tmp_path / "scene" / kind / f"{number}.png")
    done = train(replace(order, source=tmp_path / "scene", models_dir=tmp_path / "models"))
    assert metrics_of(done)["near_identical"] == 0
    assert "near-identical" in capfd.readouterr().err


def test_the_old_model_is_kept_if_no_picture_can_be_read(
    order: TransferJob, trained: TransferResult, tmp_path: Path
) -> None:
    for kind in CLASSES:
        (tmp_path / kind).mkdir()
        for number in range(5):
            (tmp_path / kind / f"{number}.jpg").write_bytes(b"no picture")
    before = params_of(trained)
    with pytest.raises(DataError, match="none of its 15 pictures"):
        train(replace(order, source=tmp_path))
    assert params_of(trained) == before


def test_a_class_that_is_too_small_without_skipped_files_is_named(order: TransferJob, tmp_path: Path) -> None:
    shapes = write_shapes(tmp_path / "shapes", count=5)
    (shapes / "noise" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"'noise' \(4\) \(not counting 1 that could not be read"):
        train(replace(order, source=shapes))


def test_a_missing_folder_is_named(order: TransferJob, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        train(replace(order, source=tmp_path / "missing"))


def test_a_bad_name_is_refused_before_anything_is_read(order: TransferJob, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="smile"):
        train(replace(order, name="smile", source=tmp_path / "missing"))


def test_a_failed_write_leaves_only_the_old_model(order: TransferJob, trained: TransferResult) -> None:
    before, names = params_of(trained), sorted(os.listdir(order.models_dir))
    head = Head(np.ones((3, 1280)), np.zeros(3), Choice(1.0, False))
    with pytest.raises(TypeError):  # the last file cannot be written
        export("shapes", cut_backbone(order.body), head, CLASSES, {"unwritable": object()}, order.models_dir)
    assert params_of(trained) == before
    assert sorted(os.listdir(order.models_dir)) == names


def test_files_of_a_killed_run_are_removed(order: TransferJob, trained: TransferResult, tmp_path: Path) -> None:
    (tmp_path / ".shapes.partial" / "MAR-INF").mkdir(parents=True)
    head = Head(np.ones((3, 1280)), np.zeros(3), Choice(1.0, False))
    folder = export("shapes", cut_backbone(order.body), head, CLASSES, {}, tmp_path)
    assert os.listdir(tmp_path) == ["shapes"]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(trained.folder))
