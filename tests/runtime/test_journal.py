"""What an adapter remembers of its model server across its own restart."""

from pathlib import Path

from shoal_runtime.journal import Journal, JournalEntry


def test_entries_come_back_until_struck(tmp_path: Path) -> None:
    Journal(tmp_path).note(JournalEntry("a/b", 10, 5, "sklearn"))
    Journal(tmp_path).note(JournalEntry("..", 11, 6, "onnx"))
    journal = Journal(tmp_path)
    assert journal.entries() == {"a/b": JournalEntry("a/b", 10, 5, "sklearn"), "..": JournalEntry("..", 11, 6, "onnx")}
    journal.strike("..")
    journal.strike("never there")
    assert set(journal.entries()) == {"a/b"}
    assert {path.name for path in tmp_path.iterdir()} == {"_shoal"}


def test_an_incarnation_lasts_as_long_as_its_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.incarnation("100-1", same=False)
    assert Journal(tmp_path).incarnation("100-1", same=False) == first
    second = journal.incarnation("100-2", same=True)
    assert second != first
    assert journal.incarnation("100-2", same=False) == second


def test_where_processes_cannot_be_seen_the_callers_word_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.incarnation(None, same=True)
    assert journal.incarnation(None, same=True) == first
    assert journal.incarnation(None, same=False) != first
