"""The scan of a package's files for what would run when a model server loads them.

Two judges, both must agree: every name that a pickle refers to must be on the allowlist (`policy`), and `picklescan`,
a kept list of names known to be evil, must find none in the same opcodes. The first is what protects; the second tells
people what they have got. Whatever cannot be read to its end counts as evil.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Final, cast

from shoal.package.containers import (
    UnpackBudget,
    UnreadableFile,
    compression,
    ends_as_archive,
    is_archive,
    is_numpy,
    is_pickle,
    members,
    skip_numpy_header,
    unpacked,
)
from shoal.package.errors import ExtraMissing
from shoal.package.evidence import Statement, now
from shoal.package.formats import MLFLOW, SKLEARN
from shoal.package.names import PAYLOAD
from shoal.package.package import Package
from shoal.package.pickles import Global, UnreadablePickle, Walk, walk
from shoal.package.policy import Policy
from shoal.package.skops import SCHEMA, follow_schema

EVIDENCE_NAME: Final = "scan"
_PICKLES: Final = (".joblib", ".pkl", ".pickle", ".dill", ".pth", ".pt", ".ckpt")
_CODE: Final = (".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".jar", ".exe")
_TEXTS: Final = (".json", ".txt", ".md", ".yaml", ".yml", ".toml", ".csv", ".onnx", ".ubj", ".bst", ".safetensors")
_TEXT_NAMES: Final = ("MLmodel", "LICENSE", "README")
_MAX_FINDINGS: Final = 100
_MAX_DEPTH: Final = 4
_HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a file is not to be loaded."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(slots=True)
class ScanReport:
    """What a scan found."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    pickles: int = 0
    globals: set[str] = field(default_factory=set)
    """All names the pickles refer to."""
    allowed: frozenset[str] = frozenset()
    """Names that whoever packaged the model vouched for."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def summary(self) -> str:
        """One line."""
        if self.passed:
            vouched = f", {len(self.allowed)} names vouched for" if self.allowed else ""
            pickles = counted(self.pickles, "pickle")
            return f"{counted(self.files, 'file')}, {pickles} with {len(self.globals)} names: all known{vouched}"
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return f"{self.findings[0]}{more}"

    def statement(self, package: Package, run: str = "") -> Statement:
        """The result as evidence."""
        details = [str(finding)[:4000] for finding in self.findings[:_MAX_FINDINGS]]
        details += [f"vouched for: {name}"[:4000] for name in sorted(self.allowed)]
        versions = f"allowlist and picklescan {importlib.metadata.version('picklescan')}"
        return Statement(
            name=EVIDENCE_NAME,
            digest=package.digest,
            passed=self.passed,
            at=now(),
            summary=f"{self.summary}; by {versions}"[:4000],
            metrics={"files": self.files, "pickles": self.pickles, "findings": len(self.findings)},
            run=run,
            details=details[:200],
        )


def scan(package: Package, policy: Policy | None = None, *, allow_code: bool = False) -> ScanReport:
    """Scan the payload of a package. What is read is not what may be there later: verify it too.

    Args:
        allow_code: source and compiled code in the payload (as in MLflow's `code/`) is no finding.

    Raises:
        ExtraMissing: picklescan is not installed.
        StoreUnavailable: the store does not answer.
    """
    return _Scanner(policy or Policy(), package.content.format, allow_code=allow_code).run(package)


class _Scanner:
    def __init__(self, policy: Policy, model_format: str, *, allow_code: bool) -> None:
        self._policy = policy
        self._format = model_format
        self._allow_code = allow_code
        self._budget = UnpackBudget()
        self._report = ScanReport(allowed=policy.extra)

    def run(self, package: Package) -> ScanReport:
        _require_picklescan()
        for name in package.content.files:
            self._report.files += 1
            if name.endswith(_CODE) and not self._allow_code:
                self._find(name, "is code; allow it by --allow-code if it is yours")
            with self._opened(package, name) as file:
                self._guarded(name, file)
        return self._report

    def _find(self, file: str, what: str) -> None:
        self._report.findings.append(Finding(file, what))

    @contextmanager
    def _opened(self, package: Package, name: str) -> Iterator[BinaryIO]:
        """The file itself, to seek in, and a finding if it is not what was packed."""
        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as copy:
            with package.store.chunks(package.path(f"{PAYLOAD}/{name}")) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
                    copy.write(chunk)
            if digest.hexdigest() != package.content.files[name].sha256:
                self._find(name, "is not what was packed")
            copy.seek(0)
            yield cast(BinaryIO, copy)

    def _guarded(self, name: str, file: BinaryIO) -> None:
        try:
            self._examine(name, file, 0)
        except UnreadablePickle as error:
            fix = "" if name.endswith(_PICKLES) else "; leave it out, or if it is text, call it .txt"
            self._find(name, f"{error}{fix}")
        except UnreadableFile as error:
            self._find(name, str(error))

    def _examine(self, name: str, file: BinaryIO, depth: int, *, torch: bool = False) -> None:
        if depth > _MAX_DEPTH:
            raise UnreadableFile(f"archives are nested deeper than {_MAX_DEPTH}")
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        expected = self._is_pickle_by_name(name)
        if is_archive(head):
            self._archive(name, file, depth)
        elif is_numpy(head):
            if skip_numpy_header(file):
                self._pickle(name, file, joblib=False)
        elif (kind := compression(head)) and (expected or _holds_pickle(file, kind)):
            with unpacked(file, kind, self._budget) as content:
                self._pickle(name, content, joblib=True)
        elif expected or is_pickle(head):
            self._pickle(name, file, joblib=self._format == SKLEARN and not torch, torch=torch)
        else:
            self._probe(name, file)
        if not is_archive(head) and ends_as_archive(file):
            self._archive(name, file, depth)

    def _is_pickle_by_name(self, name: str) -> bool:
        """Servers choose how to read a file by its name or its place, whatever it begins with."""
        base = name.rpartition("/")[2]
        if base.endswith(_PICKLES):
            return True
        return self._format in (SKLEARN, MLFLOW) and not base.endswith((*_TEXTS, *_CODE)) and base not in _TEXT_NAMES

    def _archive(self, name: str, file: BinaryIO, depth: int) -> None:
        with members(file, self._budget) as found:
            for member, content in found:
                inner = f"{name}!{member}"
                try:
                    self._examine(inner, content, depth + 1, torch=member.endswith("data.pkl"))
                    if member == SCHEMA:
                        self._skops(inner, content)
                except (UnreadablePickle, UnreadableFile) as error:
                    self._find(inner, str(error))

    def _pickle(self, name: str, file: BinaryIO, *, joblib: bool, torch: bool = False) -> None:
        self._report.pickles += 1
        found = walk(file, joblib=joblib)
        if file.read(1):
            self._find(name, "something follows the pickle")
        if found.persistent and not torch:
            self._find(name, "it refers to objects outside of itself")
        self._judge(name, found, torch=torch)
        for what in _known_evil(found, name):
            if not any(what in str(finding) for finding in self._report.findings) and what not in self._policy.extra:
                self._find(name, f"refers to {what}, which picklescan knows to be dangerous")

    def _skops(self, name: str, file: BinaryIO) -> None:
        file.seek(0)
        if (found := follow_schema(file)) is not None:
            self._judge(name, found)

    def _judge(self, name: str, found: Walk, *, torch: bool = False) -> None:
        self._report.globals |= {str(item) for item in found.globals}
        for item in sorted(found.globals, key=str):
            if not self._policy.allows(item, called=item in found.called, torch=torch):
                self._find(name, self._explained(item, found))

    def _probe(self, name: str, file: BinaryIO) -> None:
        """A text may be a pickle of the first protocols, and settings may have it loaded as one."""
        found = Walk()
        with contextlib.suppress(UnreadablePickle):
            walk(file, found)
        if found.called:
            self._find(name, f"is a pickle by another name: calls {min(map(str, found.called))}")

    def _explained(self, item: Global, found: Walk) -> str:
        how = "calls" if item in found.called else "refers to"
        return f"{how} {item}, which models have no need of; if it is yours, allow it by --allow {item}"


def counted(number: int, what: str) -> str:
    """Such as `1 file`, `2 files`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _known_evil(found: Walk, name: str) -> Iterator[str]:
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    for program in found.programs:
        program.seek(0)
        result = scan_pickle_bytes(program, name)
        for item in result.globals:
            if item.safety == SafetyLevel.Dangerous:
                yield f"{item.module}:{item.name}"


def _require_picklescan() -> None:
    try:
        import picklescan  # noqa: F401
    except ImportError:
        raise ExtraMissing("picklescan", "scanning a model") from None


def _holds_pickle(file: BinaryIO, kind: str) -> bool:
    """Whether a compressed file of an unknown name begins as a pickle; what cannot be told is not held against it."""
    budget = UnpackBudget()
    try:
        with unpacked(file, kind, budget) as content:
            return is_pickle(content.read(2))
    except UnreadableFile:
        return False
    finally:
        file.seek(0)
