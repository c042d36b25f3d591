"""The facts of the catalogue, compared with the packages that they come from, and the messages of mistakes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from app.engines.mxnet.compat import prepare
from app.errors import ModelNotFound, SettingError
from app.zoo.catalogue import Base, Catalogue, load_catalogue, resolve


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("no catalogue of one's own"))


def test_every_model_of_the_gluon_zoo_is_listed_with_its_sha1(shipped: Catalogue) -> None:
    prepare()
    from mxnet.gluon.model_zoo import model_store

    assert len(model_store._model_sha1) == 34
    for name, sha1 in model_store._model_sha1.items():
        entry = shipped.get(name)
        assert (entry.kind, entry.checksum) == ("gluon", f"sha1:{sha1}"), name


def test_files_of_gluon_have_the_urls_that_gluon_uses(shipped: Catalogue) -> None:
    prepare()
    from mxnet.gluon.model_zoo import model_store

    entry = shipped.get("resnet18_v1")
    file_name = f"resnet18_v1-{model_store.short_hash('resnet18_v1')}"
    url = model_store._url_format.format(repo_url=model_store.apache_repo_url, file_name=file_name)
    assert entry.bases[0].location + entry.files[0] == url
    newer = shipped.get("gluoncv-resnet50_v1")
    assert newer.files == ("gluon/models/resnet50_v1-cc729d95.zip",) and newer.network == "resnet50_v1"


@pytest.mark.parametrize(
    ("name", "urls"),
    [
        (
            "squeezenet_v1.1",
            [
                "http://data.mxnet.io/models/imagenet/squeezenet/squeezenet_v1.1-symbol.json",
                "http://data.mxnet.io/models/imagenet/squeezenet/squeezenet_v1.1-0000.params",
            ],
        ),
        (
            "Inception-BN",
            [
                "http://data.mxnet.io/models/imagenet/inception-bn/Inception-BN-symbol.json",
                "http://data.mxnet.io/models/imagenet/inception-bn/Inception-BN-0126.params",
            ],
        ),
        (
            "imagenet1k-resnet-152",
            [
                "http://data.mxnet.io/models/imagenet/resnet/152-layers/resnet-152-symbol.json",
                "http://data.mxnet.io/models/imagenet/resnet/152-layers/resnet-152-0000.params",
            ],
        ),
        (
            "imagenet1k-vgg16",
            [
                "http://data.mxnet.io/models/imagenet/vgg/vgg16-symbol.json",
                "http://data.mxnet.io/models/imagenet/vgg/vgg16-0000.params",
            ],
        ),
        ("mms-vgg19", ["https://s3.amazonaws.com/model-server/model_archive_1.0/vgg19.mar"]),
        ("mms-0.4-nin", ["https://s3.amazonaws.com/model-server/models/nin/nin.model"]),
    ],
)
def test_the_urls_of_the_tutorials_are_tried_first(shipped: Catalogue, name: str, urls: list[str]) -> None:
    entry = shipped.get(name)
    assert [entry.bases[0].location + path for path in entry.files] == urls


@pytest.mark.parametrize(
    "name", ["squeezenet", "SqueezeNet_v1.1", "vgg-16", "VGG-19", "resnet-152", "resnet-18", "resnet-50-v1d"]
)
def test_models_are_found_by_their_names_in_the_tutorials(shipped: Catalogue, name: str) -> None:
    assert shipped.find(name) is not None


def test_every_name_is_unique(shipped: Catalogue) -> None:
    names = [name.lower() for entry in shipped.entries.values() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_name_gets_the_most_similar_names(shipped: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="resnet50_v1d"):
        shipped.get("resnet50v1d")
    assert resolve("resnet50v1d", tmp_path) is None


OWN = """
# a comment
[source intranet]
bases =
    https://models.example.org/
    ; another comment
    /srv/models

[input grey]
shape = 1, 64, 48
color = grey
mean = 1.5
antialias = yes
layout = NCHW

[mine]
kind = checkpoint
aliases = ours, my-model
source = intranet
symbol = mine/mine-symbol.json
params = mine/mine-0042.params
bases = file:///media/stick
input = grey
labels = mine/synset.txt
top1 = 99.5

[vgg16]
kind = archive
file = vgg16.mar
source = intranet
"""


def test_own_models_are_added_to_the_included_models_or_replace_them(tmp_path: Path) -> None:
    (tmp_path / "catalogue.ini").write_text(OWN)
    catalogue = load_catalogue(tmp_path)
    mine = catalogue.get("OURS")
    assert mine.files == ("mine/synset.txt", "mine/mine-symbol.json", "mine/mine-0042.params")
    assert mine.bases == (
        Base("https://models.example.org/"),
        Base("/srv/models"),
        Base("file:///media/stick", flat=True),
    )
    assert mine.shape == (1, 64, 48)
    assert (mine.preprocess.color, mine.preprocess.mean, mine.preprocess.antialias) == ("grey", (1.5,), True)
    assert mine.accuracy.top1 == 99.5 and mine.licence == "not stated"
    assert catalogue.get("vgg16").kind == "archive"
    assert catalogue.get("vgg19").kind == "gluon"


OF_I = "[a]\nkind = archive\nfile = x\ninput = i\n"
MISTAKES = {
    "no section": ("kind = gluon\n", "line 1='kind = gluon'.*section"),
    "no form": ("[a]\nkind gluon\n", "line 2='kind gluon'"),
    "twice": ("[a]\nkind = archive\n[a]\n", r"line 3='\[a\]'.*not there already"),
    "key twice": ("[a]\nkind = archive\nfile = x\nfile = y\n", r"line 4, \[a\] file='y'.*line 3"),
    "no kind": ("[a]\nfile = x\n", r"line 1, \[a\] kind=''.*gluon, checkpoint, archive"),
    "kind": ("[a]\nkind = keras\n", r"line 2, \[a\] kind='keras'.*gluon, checkpoint, archive"),
    "name": ("[a b]\nkind = archive\n", r"line 1, \[a b\]='a b'.*model's name"),
    "key": ("[a]\nkind = archive\nfiles = x\n", r"line 3, \[a\] files='x'.*left out; known here are kind,"),
    "key of another kind": ("[a]\nkind = archive\nfile = x\nnetwork = y", r"line 4, \[a\] network='y'.*left out"),
    "no file": ("[a]\nkind = archive\n", r"line 1, \[a\] file=''.*given"),
    "no input": ("[a]\nkind = gluon\nfile = x\nsource = gluon\n", r"line 1, \[a\] input=''.*given"),
    "no source": ("[a]\nkind = archive\nfile = x\n", r"line 1, \[a\] source=''.*'bases' be given"),
    "no symbol": ("[a]\nkind = checkpoint\nparams = x\n", r"line 1, \[a\] symbol=''.*given"),
    "sha1": ("[a]\nkind = archive\nfile = x\nsha1 = 12ab\n", r"line 4, \[a\] sha1='12ab'.*40 hexadecimal"),
    "sha256": ("[a]\nkind = archive\nfile = x\nsha256 = " + "g" * 64, r"line 4, \[a\] sha256=.*64 hexadecimal"),
    "source": ("[a]\nkind = archive\nfile = x\nsource = moon\n", r"line 4, \[a\] source='moon'.*gluon, mxnet, mms"),
    "empty source": ("[source s]\n[a]\nkind = archive\nfile = x\nsource = s", r"line 1, \[source s\] bases=''.*one a"),
    "scheme": ("[a]\nkind = archive\nfile = x\nbases = ftp://x/\n", r"line 4, \[a\] bases='ftp://x/'.*http"),
    "paper": ("[a]\nkind = archive\nfile = x\npaper = mine\nsource = mms", r"line 4, \[a\] paper='mine'.*squeezenet"),
    "input": ("[a]\nkind = archive\nfile = x\ninput = mine\n", r"line 4, \[a\] input='mine'.*cifar10"),
    "shape": (
        "[input i]\nshape = 3, 224\n" + OF_I,
        r"line 2, \[input i\] shape='3, 224'",
    ),
    "size": ("[input i]\nshape = 3, x, 9\n" + OF_I, r"line 2, \[input i\] shape=' x'"),
    "option": (
        "[input i]\nshape = 3, 9, 9\nresize = squash\n" + OF_I,
        "line 3.*stretch, crop",
    ),
    "yes": ("[input i]\nshape = 3, 9, 9\nfaces = 1\n" + OF_I, "line 3.*yes or no"),
    "number": ("[a]\nkind = archive\nfile = x\nparameters = many\n", r"line 4, \[a\] parameters='many'.*number"),
    "less than none": ("[a]\nkind = archive\nfile = x\nparameters = -4\n", r"line 4, \[a\] parameters='-4'"),
    "per cent": ("[a]\nkind = archive\nfile = x\ntop1 = 101\nsource = mms", r"line 4, \[a\] top1='101'.*0 to 100"),
    "way out": ("[a]\nkind = archive\nfile = ../x\n", r"line 3, \[a\] file='../x'.*without '..'"),
    "absolute": ("[a]\nkind = archive\nfile = /etc/x\n", r"line 3, \[a\] file='/etc/x'.*below a base"),
    "url": ("[a]\nkind = archive\nfile = http://x/y.mar\n", r"line 3, \[a\] file='http.*goes into 'bases'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_an_own_catalogue_is_reported_with_its_file(mistake: str, tmp_path: Path) -> None:
    text, message = MISTAKES[mistake]
    (tmp_path / "catalogue.ini").write_text(text)
    with pytest.raises(SettingError, match=message) as caught:
        load_catalogue(tmp_path)
    assert str(tmp_path / "catalogue.ini") in str(caught.value)


def test_a_binary_catalogue_is_reported(tmp_path: Path) -> None:
    (tmp_path / "catalogue.ini").write_bytes(b"\xff\xfe[a]")
    with pytest.raises(SettingError, match=re.escape(str(tmp_path / "catalogue.ini"))):
        load_catalogue(tmp_path)


def test_the_catalogue_needs_no_heavy_module() -> None:
    """``dimple models available`` must answer at once: MXNet is for :mod:`app.zoo.gluon` and what it builds."""
    folder = Path(load_catalogue.__code__.co_filename).parent
    for name in ("build", "catalogue", "download"):
        top = ast.parse((folder / f"{name}.py").read_text()).body
        modules = [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
        assert not {"mxnet", "app.zoo.gluon", "app.zoo.residual", "app.engines.mxnet.compat"} & set(modules), name
