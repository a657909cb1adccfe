"""What was settled during a read is known until that read ends, and forgotten then."""

from __future__ import annotations

from webhook_grpc.engine.journal import SettledJournal


def test_a_key_that_is_settled_during_a_read_is_known_until_the_read_ends() -> None:
    journal = SettledJournal()
    mark = journal.begin()
    assert not journal.settled_since("a", mark)
    journal.add("a")
    assert journal.settled_since("a", mark)
    assert not journal.settled_since("b", mark)

    journal.end(mark)
    assert len(journal) == 0


def test_a_key_that_was_settled_before_a_read_began_is_not_its_business() -> None:
    journal = SettledJournal()
    earlier = journal.begin()
    journal.add("a")
    later = journal.begin()
    journal.add("b")

    assert journal.settled_since("a", earlier)
    assert not journal.settled_since("a", later)
    assert journal.settled_since("b", earlier)
    assert journal.settled_since("b", later)


def test_nothing_is_remembered_while_nothing_is_read() -> None:
    journal = SettledJournal()
    journal.add("a")
    assert len(journal) == 0
    assert not journal.settled_since("a", journal.begin())


def test_the_longest_read_keeps_what_it_needs_and_no_more() -> None:
    journal = SettledJournal()
    journal.add("before")
    first = journal.begin()
    journal.add("a")
    second = journal.begin()
    journal.add("b")

    journal.end(first)
    assert len(journal) == 1
    assert journal.settled_since("b", second)
    journal.end(second)
    assert len(journal) == 0


def test_a_read_that_ends_first_takes_nothing_from_one_that_began_before_it() -> None:
    journal = SettledJournal()
    first = journal.begin()
    journal.add("a")
    second = journal.begin()
    journal.add("b")

    journal.end(second)
    assert journal.settled_since("a", first)
    assert journal.settled_since("b", first)


def test_two_reads_that_began_at_the_same_time_end_one_by_one() -> None:
    journal = SettledJournal()
    one, other = journal.begin(), journal.begin()
    journal.add("a")

    journal.end(one)
    assert journal.settled_since("a", other)
    journal.end(other)
    assert len(journal) == 0


def test_a_key_that_is_settled_twice_counts_from_the_second_time() -> None:
    journal = SettledJournal()
    journal.begin()
    journal.add("a")
    later = journal.begin()
    assert not journal.settled_since("a", later)
    journal.add("a")
    assert journal.settled_since("a", later)


def test_a_key_that_is_settled_twice_does_not_keep_others_in_memory() -> None:
    journal = SettledJournal()
    first = journal.begin()
    journal.add("a")
    journal.add("b")
    later = journal.begin()
    journal.add("a")

    journal.end(first)
    assert journal.settled_since("a", later)
    assert len(journal) == 1, "only `a` was settled after the read that is left began"


def test_the_journal_does_not_grow_while_reads_overlap_without_end() -> None:
    journal = SettledJournal()
    mark = journal.begin()
    sizes: list[int] = []
    for number in range(100):
        journal.add(number)
        following = journal.begin()
        journal.end(mark)
        mark = following
        sizes.append(len(journal))
    assert max(sizes) <= 1
