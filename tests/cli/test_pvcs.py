"""Claims whose disk is full: said in one line, and what was there stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.cli.errors import CliError
from shoal.cli.pvc.directories import create_claim
from shoal.cli.session import target
from support.disk import small_disk


def test_files_that_do_not_fit_leave_what_was_there(tmp_path: Path):
    source = tmp_path / "models"
    source.mkdir()
    for number in range(40):
        (source / f"{number}.joblib").write_bytes(b"x" * 200_000)
    with small_disk(tmp_path / "state", 4) as disk:
        claim = disk.root / "pvcs" / "kept"
        claim.mkdir(parents=True)
        (claim / "old").write_text("old")
        with pytest.raises(CliError) as refused:
            create_claim(target(disk.root, "n"), "kept", source, replace=True, size="1Gi")
        assert str(refused.value) == f"copying {source} failed: the disk of {disk.root / 'pvcs'} is full"
        assert [path.name for path in (disk.root / "pvcs").rglob("*")] == ["kept", "old"]
        assert disk.free_bytes > 3_000_000
