from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import pickle
import pickletools
import pkgutil
import struct
import warnings
import zipfile
import zlib

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from shoal.package.containers import UnpackBudget
from shoal.package.errors import InvalidPackage
from shoal.package.pickles import Global, UnreadablePickle, walk
from shoal.package.policy import Policy
from shoal.package.scan import scan
from support.package import make_package


class Calls:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def named(module: str, name: str, *arguments) -> bytes:
    """A pickle that calls any function by name, written by hand as an attacker does."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + pickle.dumps(arguments, 4)[2:-1] + b"R."


def text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def report_on(tmp_path, data: bytes, name: str = "model.joblib", model_format: str = "sklearn", **options):
    return scan(make_package(tmp_path, {name: data}, format=model_format, samples=None), **options)


def dumped(value, **options) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def models():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:100], labels[:100]
    made = [
        LogisticRegression(max_iter=50),
        SVC(),
        RandomForestClassifier(3),
        GradientBoostingClassifier(n_estimators=1),
        KNeighborsClassifier(algorithm="kd_tree"),
        MLPClassifier(max_iter=2),
        GridSearchCV(LogisticRegression(max_iter=5), {"C": [1, 2]}, cv=2),
        make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), SelectKBest(k=5), LogisticRegression()),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [model.fit(images, labels) for model in made]


@pytest.mark.parametrize("compress", [0, ("zlib", 1), ("gzip", 1), ("bz2", 1), ("lzma", 1), ("xz", 1)])
def test_models_of_scikit_learn_pass_however_joblib_wrote_them(tmp_path, models, compress):
    for number, model in enumerate(models):
        found = report_on(tmp_path / str(number), dumped(model, compress=compress))
        assert found.passed, found.summary
        assert found.pickles >= 1
        assert found.globals


@pytest.mark.parametrize("protocol", range(6))
def test_models_pass_in_every_protocol(tmp_path, models, protocol):
    for number, model in enumerate(models[:3]):
        found = report_on(tmp_path / str(number), pickle.dumps(model, protocol), "model.pkl")
        assert found.passed, found.summary


def test_arrays_of_every_kind_pass(tmp_path):
    arrays = {
        "f": np.ones((3, 4)),
        "empty": np.ones((0, 4)),
        "fortran": np.asfortranarray(np.ones((3, 4))),
        "ints": np.arange(5, dtype=np.int8),
        "text": np.array(["a", "bcd"]),
        "bytes": np.array([b"a", b"bcd"]),
        "bools": np.array([True]),
        "complex": np.array([1j]),
        "dates": np.array(["2026-01-01"], dtype="M8[D]"),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "records": np.zeros(3, dtype=[("a", "f4"), ("b", "i8", (2,))]),
        "records of objects": np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
    }
    found = report_on(tmp_path, dumped(arrays))
    assert found.passed, found.summary


EVIL = [
    ("os", "system", "id"),
    ("posix", "system", "id"),
    ("builtins", "eval", "1"),
    ("builtins", "getattr", "a", "b"),
    ("builtins", "__import__", "os"),
    ("subprocess", "Popen", "id"),
    ("timeit", "timeit", "1"),
    ("typing", "get_type_hints", "x"),
    ("dataclasses", "_create_fn", "f"),
    ("importlib", "import_module", "os"),
    ("operator", "attrgetter", "system"),
    ("logging.config", "dictConfig", {}),
    ("shelve", "open", "x"),
    ("joblib", "load", "x"),
    ("joblib.externals.loky.backend.popen_loky_posix", "Popen", 1),
    ("numpy", "load", "x"),
    ("numpy.f2py.crackfortran", "myeval", "1"),
    ("numpy.testing._private.utils", "runstring", "1", {}),
    ("pandas.io.pickle", "read_pickle", "x"),
    ("pandas.io.parsers.readers", "read_csv", "http://x"),
    ("torch.utils.collect_env", "run", "id"),
    ("mlflow.projects.backend.local", "_run_entry_point", "id"),
    ("sklearn.datasets._base", "_fetch_remote", "x"),
    ("sklearn.callback._transport", "Client", "x"),
    ("sklearn.utils._available_if", "MethodType", "x"),
    ("sklearn", "utils.os.system", "id"),
    ("sklearn.base", "os.system", "id"),
    ("sklearnevil", "Model", "x"),
    ("xgboost.core", "Booster", {}, [], "/etc/passwd"),
    ("lightgbm.basic", "Booster", {}, None, "/etc/passwd"),
    ("multiprocessing.util", "spawnv_passfds", b"/bin/sh", (), ()),
    ("my_module", "Model"),
]


@pytest.mark.parametrize("call", EVIL, ids=lambda call: f"{call[0]}:{call[1]}")
def test_calls_that_no_model_needs_are_found(tmp_path, call):
    found = report_on(tmp_path, named(*call))
    assert not found.passed
    assert f"{call[0]}:{call[1]}" in found.summary


SYSTEM = named("os", "system", "id")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("after an array", dumped({"a": np.arange(10.0), "b": Calls(eval, "1")})),
        ("in an array of objects", dumped({"a": np.array([Calls(eval, "1")], dtype=object)})),
        ("in a nested record", dumped(np.array([(1, Calls(eval, "1"))], dtype=[("a", "i4"), ("b", "O")]))),
        ("zlib", zlib.compress(SYSTEM)),
        ("gzip", gzip.compress(SYSTEM, mtime=0)),
        ("bz2", bz2.compress(SYSTEM)),
        ("xz", lzma.compress(SYSTEM)),
        ("lzma", lzma.compress(SYSTEM, lzma.FORMAT_ALONE)),
        ("lz4", b"\x04\x22\x4d\x18" + SYSTEM),
        ("cut off", SYSTEM[:-1]),
        ("broken behind the call", SYSTEM[:-1] + b"\xff"),
        ("two pickles", pickle.dumps(1) + SYSTEM),
        ("first protocol", b"cos\nsystem\n(S'id'\ntR."),
        ("INST", b"(S'id'\nios\nsystem\n."),
        ("OBJ", b"(cos\nsystem\nS'id'\no."),
        ("by the memo", b"\x80\x04" + text("system") + b"\x94" + text("os") + b"h\x00\x93" + text("id") + b"\x85R."),
        ("put together", b"\x80\x04" + text("os") + b"(lp0\n\x93."),
        ("an extension", b"\x80\x02\x82\x01."),
        ("a persistent id", b"\x80\x02" + text("os") + b"Q."),
        ("a changed class", b"\x80\x04csklearn.base\nBaseEstimator\nN}" + text("x") + b"K\x01s\x86b."),
        ("a result that is called", b"\x80\x04cbuiltins\nint\n)RK\x01\x85R."),
        ("a future protocol", b"\x80\x06N."),
        ("no pickle", b"hello"),
        ("an underflow", b"\x80\x04\x86."),
        ("much memory", b"\x80\x04\x8e" + b"\xff" * 8),
    ],
)
def test_no_hiding_place_is_overlooked(tmp_path, name, data):
    found = report_on(tmp_path, data)
    assert not found.passed, name


def wrapper(shape=(3,), dtype="f8", state=b"", extra=b"", arguments=b")", before=b"") -> bytes:
    """A pickle with an array of joblib's, made by hand, then what should not be overlooked."""
    number = b"".join(b"K" + bytes([size]) for size in shape)
    return (
        b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n" + arguments + b"\x81" + before + b"}("
        b"" + text("shape") + b"(" + number + b"t"
        b"" + text("dtype") + b"cnumpy\ndtype\n" + text(dtype) + b"\x89\x88\x87R" + state + b"" + extra + b"ub"
    )


def dtype_state(size: int, flags: int) -> bytes:
    return b"(K\x03" + text("<") + b"NNNJ" + struct.pack("<i", size) + b"J\xff\xff\xff\xffK" + bytes([flags]) + b"tb"


HONEST = dtype_state(-1, 0)


def test_an_array_made_by_hand_passes_if_it_is_honest(tmp_path):
    found = report_on(tmp_path, wrapper(state=HONEST) + b"x" * 24 + b".")
    assert found.passed, found.summary


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("another size in its state", wrapper(state=dtype_state(16, 0)) + b"x" * 24 + b"."),
        ("objects that it does not admit", wrapper(state=dtype_state(-1, 63)) + b"x" * 24 + b"."),
        ("objects it claims to have", wrapper(dtype="O8", state=dtype_state(-1, 0)) + b"x" * 24 + b"."),
        ("several fields", wrapper(dtype="f8,O") + b"x" * 24 + b"."),
        ("a field that hides", wrapper(state=HONEST, extra=text("other") + b"K\x01") + b"x" * 24 + b"."),
        ("a key that is no text", wrapper(state=HONEST, extra=b"K\x01K\x01") + b"x" * 24 + b"."),
        ("arguments", wrapper(state=HONEST, arguments=b"K\x01\x85") + b"x" * 24 + b"."),
        ("two states", wrapper(state=HONEST, before=b"}b") + b"x" * 24 + b"."),
        ("an end that is missing", wrapper(shape=(200,), state=HONEST) + b"x" * 24 + b"."),
        ("opcodes in its bytes", wrapper(shape=(0,), state=HONEST) + SYSTEM[2:]),
    ],
)
def test_arrays_that_joblib_would_read_otherwise_are_refused(tmp_path, what, data):
    assert not report_on(tmp_path, data).passed, what


def test_arrays_of_joblib_are_refused_where_joblib_does_not_read(tmp_path):
    found = report_on(tmp_path, dumped(np.ones(3)), "python_model.pkl", "mlflow")
    assert "joblib does not read it" in found.summary


def numpy_file(dtype: str, data: bytes) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (1,), }}".ljust(118)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pytorch_model.bin", zipped(**{"archive/data.pkl": SYSTEM})),
        ("weights.npz", zipped(**{"a.npy": numpy_file("|O", SYSTEM)})),
        ("weights.dat", SYSTEM),
        ("weights.dat", zlib.compress(SYSTEM)),
        ("notes.txt", b"cos\nsystem\n(S'id'\ntR."),
        ("custom.py", b"import os"),
        ("native.so", b"\x7fELF"),
        ("broken.bin", b"PK\x03\x04nonsense"),
    ],
)
def test_files_of_other_formats_are_looked_into(tmp_path, name, data):
    assert not report_on(tmp_path, data, name, "huggingface").passed


def skops_node(module: str, name: str, loader: str, content) -> dict:
    return {"__module__": module, "__class__": name, "__loader__": loader, "content": content}


SKOPS_EVIL = skops_node(
    "posix", "system", "ConstructorFromReduceNode", skops_node("builtins", "tuple", "TupleNode", [])
)
SKOPS_INNER = skops_node("builtins", "list", "ListNode", [SKOPS_EVIL])
SKOPS_OLD = skops_node("builtins", "function", "FunctionNode", {"module_path": "os", "function": "system"})


@pytest.mark.parametrize("schema", [SKOPS_EVIL, SKOPS_INNER, SKOPS_OLD, {"__loader__": "ObjectNode"}])
@pytest.mark.parametrize(("name", "before"), [("model.skops", b""), ("model.json", b"{}"), ("model.npy", None)])
def test_names_in_files_of_skops_are_held_against_the_list(tmp_path, schema, name, before):
    """MLflow reads which names skops may trust from the model itself, and takes any file that ends as an archive."""
    before = numpy_file("<f8", b"12345678") if before is None else before
    data = before + zipped(**{"schema.json": json.dumps(schema).encode()})
    found = report_on(tmp_path, data, name, "mlflow")
    assert not found.passed
    assert "schema.json" in found.summary
    if schema is not SKOPS_OLD and "__module__" in schema:
        assert "calls posix:system" in found.summary


def test_models_that_skops_wrote_pass(tmp_path, models):
    from skops.io import dumps

    images, labels = load_digits(return_X_y=True)
    histograms = HistGradientBoostingClassifier(max_iter=1).fit(images[:100], labels[:100])
    for number, model in enumerate([*models[:3], *models[4:6], histograms]):
        found = report_on(tmp_path / str(number), dumps(model), "model.skops", "mlflow")
        assert found.passed, found.summary
        assert any(name.startswith("sklearn.") for name in found.globals)


def test_what_is_no_pickle_is_said_to_be_none(tmp_path):
    found = report_on(tmp_path / "a", b"hello", "model.joblib")
    assert "cannot be followed as a pickle (KeyError), so it is damaged or none" in found.summary
    found = report_on(tmp_path / "b", b"hi", "readme")
    assert "if it is text, call it .txt" in found.summary


def test_files_that_hold_no_code_pass(tmp_path):
    files = {
        "config.json": b'{"a": 1}',
        "README.md": b"cat\ndog\nx",
        "model.safetensors": struct.pack("<Q", 2) + b"{}",
        "vocab.txt": b"x\ny\nz",
        "weights.npy": numpy_file("<f8", b"12345678"),
        "pytorch_model.bin": zipped(**{"a/data.pkl": b"\x80\x02ccollections\nOrderedDict\n)R.", "a/data/0": b"x" * 9}),
    }
    found = scan(make_package(tmp_path, files, format="huggingface", samples=None))
    assert found.passed, found.summary
    assert (found.files, found.pickles) == (6, 1)


def test_names_and_code_can_be_vouched_for(tmp_path):
    data = named("my_module", "Model")
    assert report_on(tmp_path / "a", data, policy=Policy(["my_module:Model"])).passed
    assert report_on(tmp_path / "b", b"import os", "custom.py", allow_code=True).passed
    with pytest.raises(InvalidPackage, match="write module:name"):
        Policy(["my_module"])


def test_the_result_is_evidence(tmp_path, key):
    package = make_package(tmp_path, {"model.joblib": SYSTEM})
    found = scan(package, Policy(["a:b"])).statement(package, "run-1")
    assert (found.name, found.passed, found.digest, found.run) == ("scan", False, package.digest, "run-1")
    assert "os:system" in found.summary
    assert "picklescan" in found.summary
    assert found.metrics["findings"] == len([line for line in found.details if not line.startswith("vouched")])
    assert "vouched for: a:b" in found.details


def test_a_file_that_is_not_what_was_packed_does_not_pass(tmp_path):
    package = make_package(tmp_path)
    (tmp_path / "package" / "model" / "model.joblib").write_bytes(pickle.dumps(2))
    assert "is not what was packed" in scan(package).summary


def test_unpacking_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.package.scan.UnpackBudget", lambda: UnpackBudget(10**6))
    bomb = zlib.compress(b"\x80\x04" + b"N0" * 10**6)
    assert "unpacks to more than" in report_on(tmp_path / "a", bomb).summary
    assert "unpacks to more than" in report_on(tmp_path / "b", zipped(a=b"0" * 2 * 10**6), "x.bin", "custom").summary


def test_archives_in_archives_have_an_end(tmp_path):
    data = b"harmless"
    for _ in range(6):
        data = zipped(inner=data)
    found = report_on(tmp_path, data, "x.bin", "custom")
    assert "archives are nested deeper than 4" in found.summary


def test_the_second_judge_finds_what_the_first_would_let_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(Policy, "allows", lambda *_, **__: True)
    found = report_on(tmp_path, SYSTEM)
    assert [str(finding) for finding in found.findings] == [
        "model.joblib: refers to os:system, which picklescan knows to be dangerous"
    ]


def test_every_opcode_is_followed_or_refused():
    """A new one must not be taken for harmless: the walk over each alone ends in an answer, never in another error."""
    for opcode in pickletools.opcodes:
        for tail in (b"", b"\x00" * 16, b"a b\nc\n" * 3):
            data = b"\x80\x04" + b"NN" + opcode.code.encode("latin-1") + tail + b"."
            try:
                walk(io.BytesIO(data))
            except UnreadablePickle:
                continue


def test_the_names_that_are_allowed_come_from_where_they_say():
    """Modules import names of others, so `sklearn.x:Client` could be a socket's."""
    import sklearn

    harmless = ("sklearn", "numpy", "scipy", "abc", "collections", "numbers", "typing", "enum", "inspect", "_io")
    allowed = Policy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.walk_packages(sklearn.__path__, "sklearn."):
            if ".tests" in module.name or "conftest" in module.name:
                continue
            try:
                names = vars(importlib.import_module(module.name))
            except ImportError:
                continue
            for name, value in names.items():
                home = str(getattr(value, "__module__", None) or "builtins").partition(".")[0]
                if callable(value) and allowed.allows(Global(module.name, name)):
                    assert home in harmless, f"{module.name}:{name} is of {home}"
