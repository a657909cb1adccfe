"""What was settled during a read is known until that read ends, and forgotten then."""

from __future__ import annotations

from webhook_grpc.engine.queue.stale_rows import StaleRows


def test_a_key_that_is_settled_during_a_read_is_known_until_the_read_ends() -> None:
    stale_rows = StaleRows()
    mark = stale_rows.begin()
    assert not stale_rows.settled_since("a", mark)
    stale_rows.add("a")
    assert stale_rows.settled_since("a", mark)
    assert not stale_rows.settled_since("b", mark)

    stale_rows.end(mark)
    assert len(stale_rows) == 0


def test_a_key_that_was_settled_before_a_read_began_is_not_its_business() -> None:
    stale_rows = StaleRows()
    earlier = stale_rows.begin()
    stale_rows.add("a")
    later = stale_rows.begin()
    stale_rows.add("b")

    assert stale_rows.settled_since("a", earlier)
    assert not stale_rows.settled_since("a", later)
    assert stale_rows.settled_since("b", earlier)
    assert stale_rows.settled_since("b", later)


def test_nothing_is_remembered_while_nothing_is_read() -> None:
    stale_rows = StaleRows()
    stale_rows.add("a")
    assert len(stale_rows) == 0
    assert not stale_rows.settled_since("a", stale_rows.begin())


def test_the_longest_read_keeps_what_it_needs_and_no_more() -> None:
    stale_rows = StaleRows()
    stale_rows.add("before")
    first = stale_rows.begin()
    stale_rows.add("a")
    second = stale_rows.begin()
    stale_rows.add("b")

    stale_rows.end(first)
    assert len(stale_rows) == 1
    assert stale_rows.settled_since("b", second)
    stale_rows.end(second)
    assert len(stale_rows) == 0


def test_a_read_that_ends_first_takes_nothing_from_one_that_began_before_it() -> None:
    stale_rows = StaleRows()
    first = stale_rows.begin()
    stale_rows.add("a")
    second = stale_rows.begin()
    stale_rows.add("b")

    stale_rows.end(second)
    assert stale_rows.settled_since("a", first)
    assert stale_rows.settled_since("b", first)


def test_two_reads_that_began_at_the_same_time_end_one_by_one() -> None:
    stale_rows = StaleRows()
    one, other = stale_rows.begin(), stale_rows.begin()
    stale_rows.add("a")

    stale_rows.end(one)
    assert stale_rows.settled_since("a", other)
    stale_rows.end(other)
    assert len(stale_rows) == 0


def test_a_key_that_is_settled_twice_counts_from_the_second_time() -> None:
    stale_rows = StaleRows()
    stale_rows.begin()
    stale_rows.add("a")
    later = stale_rows.begin()
    assert not stale_rows.settled_since("a", later)
    stale_rows.add("a")
    assert stale_rows.settled_since("a", later)


def test_a_key_that_is_settled_twice_does_not_keep_others_in_memory() -> None:
    stale_rows = StaleRows()
    first = stale_rows.begin()
    stale_rows.add("a")
    stale_rows.add("b")
    later = stale_rows.begin()
    stale_rows.add("a")

    stale_rows.end(first)
    assert stale_rows.settled_since("a", later)
    assert len(stale_rows) == 1, "only `a` was settled after the read that is left began"


def test_the_journal_does_not_grow_while_reads_overlap_without_end() -> None:
    stale_rows = StaleRows()
    mark = stale_rows.begin()
    sizes: list[int] = []
    for number in range(100):
        stale_rows.add(number)
        following = stale_rows.begin()
        stale_rows.end(mark)
        mark = following
        sizes.append(len(stale_rows))
    assert max(sizes) <= 1
