from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorastyle.distributed.batches import ATTEMPTS, LOSSES, Backlog, Batch, balanced_batches
from lorastyle.distributed.watch import Loss


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 12))
def test_batches_keep_order_are_no_longer_than_allowed_and_differ_by_one_at_most(
    n: int, size: int, n_workers: int
) -> None:
    batches = balanced_batches(range(n), size, n_workers)
    assert [item for batch in batches for item in batch] == list(range(n))
    lengths = [len(batch) for batch in batches]
    assert not lengths or (max(lengths) <= size and max(lengths) - min(lengths) <= 1)
    assert len(batches) % n_workers == 0 or len(batches) == n


@given(st.lists(st.integers(1, 9), max_size=8), st.lists(st.integers(1, 9), min_size=1))
def test_every_item_is_handed_out_once_and_in_order_whatever_actors_can_hold(
    sizes: list[int], capacities: list[int]
) -> None:
    items = iter(range(sum(sizes)))
    backlog = Backlog([tuple(next(items) for _ in range(size)) for size in sizes])
    given_out: list[int] = []
    while backlog:
        capacity = capacities[len(given_out) % len(capacities)]
        batch = backlog.take(capacity)
        assert 0 < len(batch.items) <= capacity
        given_out.extend(batch.items)
    assert given_out == list(range(sum(sizes)))


def trouble(n: int, loss: Loss, bad: set[int]) -> tuple[list[int], dict[int, int], int]:
    """Work through `n` items of which batches with a `bad` one fail.

    What was done, what was given up after how many tries, and the calls in all.
    """
    backlog, done, given_up = Backlog([tuple(range(n))]), [], {}
    tries = dict.fromkeys(range(n), 0)
    n_calls = 0
    while backlog:
        batch = backlog.take()
        n_calls += 1
        for item in batch.items:
            tries[item] += 1
        if not bad & set(batch.items):
            done += batch.items
        elif (item := backlog.put_back(batch, loss)) is not None:
            given_up[item] = tries[item]
    return done, given_up, n_calls


def test_an_item_that_raises_is_given_up_alone_after_a_few_tries() -> None:
    done, given_up, n_calls = trouble(16, Loss.APPLICATION, {5})
    assert sorted(done) == [item for item in range(16) if item != 5]
    assert given_up == {5: ATTEMPTS + 3 + 2}  # whole, in halves of 8, 4 and 2, and alone
    assert n_calls < 16


def test_an_item_that_kills_every_actor_is_given_up_alone_in_the_end() -> None:
    done, given_up, _ = trouble(8, Loss.INFRASTRUCTURE, {0, 7})
    assert sorted(done) == list(range(1, 7))
    assert set(given_up) == {0, 7} and min(given_up.values()) > LOSSES


def test_machines_that_go_cost_a_batch_no_try_of_its_own() -> None:
    backlog = Backlog([(1, 2)])
    for _ in range(LOSSES - 1):
        assert backlog.put_back(backlog.take(), Loss.INFRASTRUCTURE) is None
    assert backlog.put_back(backlog.take(), Loss.APPLICATION) is None
    assert backlog.take() == Batch((1, 2), errors=1, losses=LOSSES - 1)


def test_a_call_that_never_ends_counts_like_an_error() -> None:
    _, given_up, _ = trouble(1, Loss.OVERDUE, {0})
    assert given_up == {0: ATTEMPTS}
