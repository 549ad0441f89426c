"""Receptive fields by hand."""

from __future__ import annotations

import pytest

from cnnviz import fields, measured_window
from cnnviz.adapter import Layer
from cnnviz.errors import InvalidOption, UnknownField
from cnnviz.fields import ALL, Window
from cnnviz.taps import adaptive, beyond, interpolated
from cnnviz.testing import OracleAdapter

PIXEL = fields.first(1)


def spans(field, count=4):
    return [field.places[0][i] for i in range(count)]


def test_windows_move_by_their_stride_from_before_the_picture() -> None:
    field = fields.enlarged(PIXEL, [3], [2], [1])
    assert (field.start, field.extent, field.step) == ((-1.0,), (3.0,), (2.0,))
    field = fields.enlarged(field, [3], [1], [1], [2])
    assert (field.start, field.extent, field.step) == ((-3.0,), (11.0,), (2.0,))
    assert field.box([5]) == (7, 18)


def test_neighbours_of_what_was_enlarged_share_their_field() -> None:
    field = fields.enlarged(PIXEL, [3], [2])
    twice = fields.taken(field, [interpolated(5, 10, 1)])
    assert spans(twice) == [(0, 3), (0, 3), (2, 5), (2, 5)]
    assert (twice.extent, twice.step) == ((3.0,), (1.0,))
    assert twice.places[0][-1] == (-2, 1)
    assert fields.enlarged(twice, [1], [2]) == field
    assert spans(fields.taken(PIXEL, [interpolated(4, 8, 2)])) == [(-1, 1), (0, 2), (0, 2), (1, 3)]


def test_transposed_windows() -> None:
    assert spans(fields.shrunk(PIXEL, [4], [2], [1])) == [(-1, 1), (0, 2), (0, 2), (1, 3)]
    assert spans(fields.shrunk(PIXEL, [2], [2])) == [(0, 1), (0, 1), (1, 2), (1, 2)]
    # Between windows smaller than their stride nothing is seen.
    gaps = fields.shrunk(PIXEL, [1], [2])
    assert (gaps.start, gaps.extent, gaps.step) == (None, (1.0,), (0.5,))


def test_a_union_is_the_hull() -> None:
    small, shifted = fields.enlarged(PIXEL, [2], [2]), fields.enlarged(PIXEL, [3], [2], [2])
    assert spans(fields.union([small, shifted]), 2) == [(-2, 2), (0, 4)]
    assert fields.union([small, ALL]) == ALL
    assert fields.union([small, None]) is None
    unlike = fields.union([small, PIXEL])
    assert unlike == Window((2.0,), (2.0,))
    assert fields.enlarged(unlike, [3], [2]) == Window((6.0,), (4.0,))
    assert fields.union([small, fields.unplaced(shifted)]) == Window((3.0,), (2.0,))


def test_adaptive_pooling_and_padding_by_the_places_themselves() -> None:
    assert spans(fields.taken(PIXEL, [adaptive(7, 3)]), 3) == [(0, 3), (2, 5), (4, 7)]
    mirrored = fields.taken(PIXEL, [beyond(4, 2, 1, mirrored=True)])
    assert [start for start, _ in spans(mirrored, 7)] == [2, 1, 0, 1, 2, 3, 2]
    again = fields.taken(PIXEL, [beyond(4, 2, 1, mirrored=False)])
    assert [start for start, _ in spans(again, 7)] == [0, 0, 0, 1, 2, 3, 3]


def test_one_place_laid_over_many() -> None:
    held = fields.held(fields.enlarged(PIXEL, [5], [5]), [0])
    assert spans(held, 3) == [(0, 5)] * 3


def test_fields_that_never_recur_are_given_up() -> None:
    field = PIXEL
    for count in (101, 103, 107):
        field = fields.taken(field, [interpolated(count, count + 1, 1)])
    assert field.places is None
    assert field.extent == (1.0,)


def test_the_patch_of_a_place() -> None:
    field = fields.enlarged(fields.first(2), (3, 5), (2, 1), (1, 0))
    layer = Layer("conv", "Conv", (None, 4, 4, 2), 0, field=field)
    assert layer.patch((0, 0), (8, 8)) == (-1, 0, 2, 5)
    assert layer.patch((3, 2), (8, 8)) == (5, 2, 8, 7)
    with pytest.raises(InvalidOption, match="2 numbers from 0"):
        layer.patch((-1, 0), (8, 8))
    with pytest.raises(InvalidOption, match="2 numbers from 0"):
        layer.patch((1,), (8, 8))
    assert Layer("fc", "Dense", (None, 4), 0, field=ALL).patch((0, 0), (8, 9)) == (0, 0, 8, 9)
    for unknown in (None, fields.unplaced(field)):
        with pytest.raises(UnknownField, match="measured_window"):
            Layer("conv", "Conv", (None, 4, 4, 2), 0, field=unknown).patch((0, 0), (8, 8))
    windows = Layer("conv", "Conv", (None, 4, 4, 2), 0, rows=9, field=field)
    with pytest.raises(UnknownField):
        windows.patch((0, 0), (8, 8))


def test_what_the_oracle_is_measured_to_see_is_what_it_tells() -> None:
    net = OracleAdapter()
    found = measured_window(net, "conv1", (10, 10), pictures=1)
    assert found == net.layer("conv1").field
    assert measured_window(net, "fc", (10, 10)) is None
    with pytest.raises(InvalidOption, match="above zero"):
        measured_window(net, "conv1", pictures=0)
