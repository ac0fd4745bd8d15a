"""Thrift's compact protocol: vectors from its description, and what a reader of it gets back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_spark.decode import thrift
from tests.support import compact


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (thrift.varint(0), "00"),
        (thrift.varint(127), "7f"),
        (thrift.varint(128), "80 01"),
        (thrift.varint(50399), "df 89 03"),
        (thrift.zigzag(0), "00"),
        (thrift.zigzag(-1), "01"),
        (thrift.zigzag(1), "02"),
        (thrift.zigzag(-2), "03"),
        (thrift.zigzag(2**31 - 1), "fe ff ff ff 0f"),
        (thrift.zigzag(-(2**31)), "ff ff ff ff 0f"),
        (thrift.i8(-1).data, "ff"),
        (thrift.text("é").data, "02 c3 a9"),
        (thrift.list_of([thrift.i32(1), thrift.i32(-1)]).data, "25 02 01"),
        (thrift.list_of([thrift.i64(1)] * 15).data, "f6 0f" + " 02" * 15),
        (thrift.struct({}).data, "00"),
        (thrift.struct({1: thrift.boolean(True), 2: thrift.boolean(False)}).data, "11 12 00"),
        (thrift.struct({1: None, 3: thrift.i32(1), 4: thrift.i32(2)}).data, "35 02 15 04 00"),
        # The page header that pyarrow writes for a dictionary of 29 values.
        (
            thrift.struct(
                {
                    1: thrift.i32(2),
                    2: thrift.i32(116),
                    3: thrift.i32(72),
                    7: thrift.struct(
                        {1: thrift.i32(29), 2: thrift.i32(0), 3: thrift.boolean(False)}
                    ),
                }
            ).data,
            "15 04 15 e8 01 15 90 01 4c 15 3a 15 00 12 00 00",
        ),
    ],
)
def test_known_vectors(encoded, expected):
    assert encoded.hex() == expected.replace(" ", "")


def test_form():
    inner = thrift.struct({1: thrift.blank(thrift.BINARY), 2: thrift.boolean(True)})
    form = thrift.Form(
        {1: thrift.blank(thrift.I32), 2: None, 4: inner, 5: thrift.blank(thrift.I64)}
    )
    for number, text in ((0, ""), (-(2**31), "é" * 200)):
        values = thrift.i32(number), thrift.text(text), thrift.i64(number)
        nested = thrift.struct({1: values[1], 2: thrift.boolean(True)})
        assert form.fill(*values) == thrift.struct({1: values[0], 4: nested, 5: values[2]})
    with pytest.raises(ValueError, match="longer"):
        form.fill(thrift.i32(1))


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300), st.text(max_size=9)
)
FIELDS = st.lists(st.integers(1, 15), unique=True, max_size=6).map(sorted)


@given(st.data())
def test_read_back(data):
    def build(depth: int) -> tuple[thrift.Value, dict[int, object]]:
        encoded: dict[int, thrift.Value | None] = {}
        wanted: dict[int, object] = {}
        for number in data.draw(FIELDS):
            kind = data.draw(st.sampled_from(["scalar", "list", "struct", "none"]))
            if kind == "none":
                encoded[number] = None
            elif kind == "struct" and depth < 3:
                encoded[number], wanted[number] = build(depth + 1)
            elif kind == "list":
                values = data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
                encoded[number] = thrift.list_of([thrift.i32(value) for value in values])
                wanted[number] = values
            else:
                value = data.draw(SCALARS)
                encoded[number], wanted[number] = scalar(value)
        return thrift.struct(encoded), wanted

    encoded, wanted = build(0)
    read, end = compact.read_struct(encoded.data, 0)
    assert read == wanted
    assert end == len(encoded.data)


def scalar(value: object) -> tuple[thrift.Value, object]:
    if isinstance(value, bool):
        return thrift.boolean(value), value
    if isinstance(value, int):
        if -128 <= value < 128:
            return thrift.i8(value), value
        return (thrift.i32 if -(2**31) <= value < 2**31 else thrift.i64)(value), value
    if isinstance(value, bytes):
        return thrift.binary(value), value
    return thrift.text(str(value)), str(value).encode()


@pytest.mark.parametrize(
    ("encoded", "fields"),
    [
        ("00", {}),
        ("15 00 00", {1: 0}),
        ("15 01 16 02 00", {1: -1, 2: 1}),
        ("15 80 01 00", {1: 64}),
        ("35 fe ff ff ff 0f 00", {3: 2**31 - 1}),
        ("11 12 00", {1: True, 2: False}),
        ("1c 15 02 00 26 04 00", {1: {1: 1}, 3: 2}),
        ("9c 00 00", {9: {}}),
    ],
)
def test_structs_are_read_back(encoded, fields):
    data = bytes.fromhex(encoded)
    read, end = thrift.read_struct(data)
    assert (read, end) == (fields, len(data))
    assert [type(value) for value in read.values()] == [type(value) for value in fields.values()]
    assert thrift.read_struct(b"\xff" + data + b"\xff", 1) == (fields, 1 + len(data))
    for cut in range(len(data)):
        with pytest.raises(IndexError):
            thrift.read_struct(data[:cut])


@pytest.mark.parametrize(
    ("encoded", "wrong"),
    [("18 01 61 00", "1 of type 8"), ("15 02 29 15 02 00", "3 of type 9"), ("05 02 00", "0 of")],
)
def test_fields_of_other_types_are_not_read(encoded, wrong):
    with pytest.raises(ValueError, match=f"field {wrong}"):
        thrift.read_struct(bytes.fromhex(encoded))
