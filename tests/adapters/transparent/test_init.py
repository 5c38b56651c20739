import pytest
import torch

from ranp.adapters.transparent.init import close_identity, doubled, gaussian, make_layers, orthonormal
from ranp.errors import UsageError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (9, 5), (6, 6)])
def test_orthonormal_rows_or_columns(rows: int, columns: int) -> None:
    a = orthonormal(rows, columns, generator())
    gram = a @ a.T if rows <= columns else a.T @ a
    assert a.shape == (rows, columns)
    torch.testing.assert_close(gram, torch.eye(min(rows, columns), dtype=torch.float64))


def test_gaussian_variance_is_one_over_the_outputs() -> None:
    assert gaussian(400, 500, generator()).var().item() == pytest.approx(1 / 500, rel=0.02)


def test_last_layer_is_the_right_inverse_and_cancels_the_bias() -> None:
    a = gaussian(3, 7, generator())
    b = gaussian(1, 7, generator())[0]
    inverse, closing = close_identity([(a, b)])[-1]
    torch.testing.assert_close(inverse, a.T @ torch.linalg.inv(a @ a.T))
    torch.testing.assert_close(closing, -b @ inverse)


def test_doubled_blocks_by_hand() -> None:
    one = torch.tensor([[1.0]])
    layers = doubled([(2 * one, one[0]), (3 * one, 4 * one[0]), (5 * one, 6 * one[0])], slope=2.0)
    first, inner, last = (weight.tolist() for weight, _ in layers)
    assert first == [[2, -2]]
    assert inner == [[1.5, -1.5], [-1.5, 1.5]]
    assert last == [[2.5], [-2.5]]
    assert [bias.tolist() for _, bias in layers] == [[1, -1], [4, -4], [6]]


def test_net2net_widens_identities_and_composes_to_the_identity() -> None:
    layers = make_layers((4, 7, 6, 4), "net2net", 1.0, 0, torch.float32)
    product = layers[0][0] @ layers[1][0] @ layers[2][0]
    torch.testing.assert_close(product, torch.eye(4, dtype=torch.float64))
    assert all((bias == 0).all() for _, bias in layers)


def test_xavier_variance() -> None:
    weight, bias = make_layers((300, 500, 300), "xavier", 1.0, 0, torch.float32)[0]
    assert weight.var().item() == pytest.approx(2 / 800, rel=0.02)
    assert not bias.any()


def test_draws_are_seeded_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again = (make_layers((3, 5, 3), "orthonormal", 1.0, 7, torch.float32) for _ in range(2))
    other = make_layers((3, 5, 3), "orthonormal", 1.0, 8, torch.float32)
    assert torch.equal(first[0][0], again[0][0])
    assert not torch.equal(first[0][0], other[0][0])
    assert torch.equal(state, torch.get_rng_state())


def test_rank_deficient_matrices_are_refused() -> None:
    singular = torch.ones(3, 4)
    with pytest.raises(UsageError, match="rank 1, expected 3"):
        make_layers((3, 4, 3), [singular], 1.0, 0, torch.float32)


def test_matrices_of_other_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected matrices of sizes \[\(3, 4\)\], received \[\(4, 3\)\]"):
        make_layers((3, 4, 3), [torch.ones(4, 3)], 1.0, 0, torch.float32)


def test_matrices_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UsageError, match="finite"):
        make_layers((3, 4, 3), [torch.full((3, 4), torch.nan)], 1.0, 0, torch.float32)


def test_unknown_initialisation_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        make_layers((3, 4, 3), "gausian", 1.0, 0, torch.float32)
