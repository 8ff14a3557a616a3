"""What an adapter does where nothing can be written any more."""

from __future__ import annotations

from shoal_runtime.journal import Journal, JournalEntry
from support.disk import small_disk


def test_a_model_that_cannot_be_noted_serves_all_the_same(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        journal = Journal(disk.root)
        journal.note(JournalEntry("before", 1, 1, "sklearn"))
        disk.fill()
        files = sorted(path.name for path in (disk.root / "_shoal" / "models").iterdir())
        journal.note(JournalEntry("during", 1, 1, "sklearn"))
        assert list(journal.entries()) == ["before"]
        assert sorted(path.name for path in (disk.root / "_shoal" / "models").iterdir()) == files
        disk.clear()
        journal.note(JournalEntry("after", 1, 1, "sklearn"))
        assert set(journal.entries()) == {"before", "after"}
