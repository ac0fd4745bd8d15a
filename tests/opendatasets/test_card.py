"""The card that notebooks show of a dataset."""

from __future__ import annotations

import base64
import io
import socket
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from mnist_spark import EMNIST, MNIST
from mnist_spark.opendatasets.files import FileDataset
from mnist_spark.opendatasets.tabular import TabularDataset
from tests.support.idxfiles import random_pair, write_dataset


class Card(HTMLParser):
    """What is in the HTML; every element must be closed."""

    def __init__(self, what: TabularDataset | FileDataset) -> None:
        super().__init__()
        self.text, self.attributes, self._open = [], [], []
        self.html = what._repr_html_()
        self.feed(self.html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in ("br", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def strip(self):
        """The strip's pixels."""
        (source,) = (value for name, value in self.attributes if name == "src")
        png = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        return np.round(imread(io.BytesIO(png)) * 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a card must not download")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MNIST_SPARK_SOURCE", raising=False)


@pytest.fixture
def tiny(tmp_path):
    pairs = {"train": random_pair(50, 4, 3, seed=1), "test": random_pair(30, 4, 3, seed=2)}
    dataset = write_dataset(tmp_path / "in", pairs, image_shape=(4, 3))
    return TabularDataset(dataset, ("train", "test"), str(tmp_path / "in"), str(tmp_path / "c"))


def images(strip, rows, cols):
    cells = strip.reshape(rows + 2, -1, cols + 2).swapaxes(0, 1)
    return cells[:, 1:-1, 1:-1]


def test_of_mnist(real_data):
    card = Card(MNIST.get_tabular_dataset(source=real_data / "mnist"))
    assert card.text[:2] == ["MNIST", " "]
    facts = dict(zip(card.text[4::2], card.text[5::2], strict=True))
    assert facts["Splits"] == "train 60,000, test 10,000"
    assert facts["Rows"] == "70,000 × 785 columns"
    assert facts["Licence"] == "CC-BY-SA-3.0 (Y. LeCun, C. Cortes)"
    assert facts["Source"] == str(real_data / "mnist")
    assert ("alt", "train: " + ", ".join("50419213143536172869")) in card.attributes
    assert len(card.html) < 10_000


def test_the_strip_has_the_first_records(tiny):
    for chosen in (tiny, tiny.skip(7), tiny.skip(60), tiny.take_sample(0.8, seed=1), tiny.take(3)):
        shown = images(Card(chosen).strip(), 4, 3)
        assert len(shown) == min(len(chosen), 20)
        assert (shown == chosen.to_numpy()[0][: len(shown)]).all()
    assert len(images(Card(tiny.skip(45)).strip(), 4, 3)) == 5  # those of one split
    files = FileDataset(tiny.dataset, ("test",), tiny.source)
    first = replace(tiny, splits=("test",)).to_numpy()[0][:20]
    assert (images(Card(files).strip(), 4, 3) == first).all()


def test_from_the_cache(tiny, tmp_path):
    tiny.to_numpy()  # uses the files in place, and so leaves nothing that a card could use
    elsewhere = replace(tiny, source=None)
    assert Card(elsewhere).strip().any()  # the description's own folder
    (tmp_path / "in").rename(tmp_path / "c" / "tiny")
    assert Card(elsewhere).strip().any()


def test_without_the_files():
    for what in (MNIST.get_tabular_dataset(), MNIST.get_file_dataset("test")):
        card = Card(what)
        assert "The files are not here yet; a card does not download them." in card.text
        assert "https://azureopendatastorage.blob.core.windows.net/mnist/, or 2 more" in card.text
    Card(EMNIST.Letters.get_tabular_dataset())


def test_without_rows(tiny):
    assert "No records." in Card(tiny.take(0)).text


@pytest.mark.parametrize("damage", [b"", b"no gzip", b"\x1f\x8b\x08damaged"])
def test_damaged_files(tiny, tmp_path, damage):
    (tmp_path / "in" / "train-images.gz").write_bytes(damage)
    assert "The files cannot be read." in Card(tiny).text


def test_everything_is_escaped_and_no_secret_told(tiny):
    evil = "<script>alert('&\"')</script>"
    dataset = replace(
        tiny.dataset,
        **dict.fromkeys(("title", "description", "licence"), evil),
        homepage="javascript:alert(1)",
        classes=(evil,) * 10,
    )
    card = Card(replace(tiny, dataset=dataset, source=None))
    assert card.text.count(evil) == 3
    assert ", ".join([evil] * 10) in card.text
    assert not any(name == "href" for name, _ in card.attributes)
    assert "<script" not in card.html
    secret = replace(tiny, source="https://me:pass@host/a?sig=token")
    assert "https://host/a" in Card(secret).text
    assert "pass" not in Card(secret).html
    assert "token" not in Card(secret).html


def test_in_dark_and_light():
    """No colours but those of the page, and greys half transparent."""
    html = Card(MNIST.get_tabular_dataset()).html
    assert "color:" not in html.replace("color:inherit", "")
    assert "background:none" in html
