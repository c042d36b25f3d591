"""The functions of MXNet's operators, which are compiled at their first call."""

from __future__ import annotations

import pytest

from tests.engines.networks import mx


@pytest.mark.parametrize("module", [mx.nd, mx.sym], ids=["nd", "sym"])
def test_every_operator_that_mxnet_lists_has_a_function_of_its_name(module: object) -> None:
    listed = [name for name in mx.operator.get_all_registered_operators() if name[0].isalpha()]
    assert len(listed) > 200
    assert [name for name in listed if getattr(getattr(module, name, None), "__name__", "") != name] == []


def test_functions_take_positions_names_and_a_place_for_the_result() -> None:
    rows = mx.nd.array([[1, 2], [3, 4]])
    assert mx.nd.broadcast_add(rows, rhs=mx.nd.ones((1, 2))).asnumpy().tolist() == [[2, 3], [4, 5]]
    assert mx.nd.concat(rows, rows, dim=0).shape == (4, 2)
    place = mx.nd.zeros((2, 2))
    for _ in range(2):
        assert mx.nd.sqrt(rows * rows, out=place) is place
        assert place.asnumpy().tolist() == [[1, 2], [3, 4]]
    node = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    assert node.list_arguments() == ["data", "fc_weight", "fc_bias"]


def test_a_parameter_that_an_operator_does_not_have_is_refused() -> None:
    with pytest.raises(mx.MXNetError, match="dimension"):
        mx.nd.concat(mx.nd.ones(2), dimension=0)
