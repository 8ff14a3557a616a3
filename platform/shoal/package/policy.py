"""What pickled models may refer to: names that scikit-learn, XGBoost, LightGBM and their companions put into files.

An allowlist. A name is on it because unpickling it builds data and nothing else: classes whose constructors store what
they are given, and the helpers the libraries pickle themselves by. Functions are on it one by one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from shoal.package.errors import InvalidPackage
from shoal.package.pickles import Global

_BUILTINS: Final = (
    "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple NoneType Ellipsis"
)
_EXACT: Final[dict[str, str]] = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "_reconstructor",
    "copy_reg": "_reconstructor",
    "_codecs": "encode",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": "PurePosixPath PosixPath",
    "uuid": "UUID",
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "numpy": (
        "ndarray dtype bool_ bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str_ "
        "bytes_ object_ matrix datetime64 timedelta64 complex64 complex128 "
        "mean median abs absolute "
        "cbrt exp exp2 expm1 identity log log10 log1p log2 negative reciprocal rint sign sin cos tan sqrt "
        "square tanh"
    ),
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray _mareconstruct",
    "numpy.random": "RandomState Generator",
    "numpy.random.mtrand": "RandomState",
    "numpy.random._generator": "Generator",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "scipy.interpolate._interpolate": "interp1d",
    "scipy.interpolate._bsplines": "BSpline",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "scipy.special._ufuncs": "expit logit",
    "sklearn.neighbors._kd_tree": "newObj KDTree KDTree32 KDTree64",
    "sklearn.neighbors._ball_tree": "newObj BallTree BallTree32 BallTree64",
    "sklearn.metrics._dist_metrics": "newObj",
    "sklearn.cluster._kmeans": "_kmeans_single_lloyd _kmeans_single_elkan",
    "sklearn.feature_selection._univariate_selection": "f_classif f_regression chi2 r_regression",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "pandas": (
        "Categorical CategoricalDtype DataFrame DatetimeIndex Index MultiIndex RangeIndex Series StringDtype Timedelta "
        "Timestamp"
    ),
    "pandas.arrays": "DatetimeArray TimedeltaArray",
    "pandas._libs.internals": "_unpickle_block",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.internals.blocks": "new_block",
}
_CLASSES: Final = re.compile(r"(_{0,2}|__pyx_unpickle_)[A-Z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_SPARSE: Final = re.compile(r"(bsr|coo|csc|csr|dia|dok|lil)_(array|matrix)")
_PACKAGES: Final[dict[str, re.Pattern[str]]] = {
    "sklearn": _CLASSES,
    "numpy.dtypes": re.compile(r"[A-Z][A-Za-z0-9]*DType"),
    "scipy.sparse": _SPARSE,
    "xgboost.core": re.compile(r"Booster"),
    "xgboost.sklearn": re.compile(r"XGB[A-Za-z]+"),
    "lightgbm.basic": re.compile(r"Booster"),
    "lightgbm.sklearn": re.compile(r"LGBM[A-Za-z]+"),
    "pandas.core.dtypes.dtypes": re.compile(r"[A-Z][A-Za-z]*Dtype"),
    "pandas.core.frame": re.compile(r"DataFrame"),
    "pandas.core.series": re.compile(r"Series"),
    "pandas.core.indexes": re.compile(r"[A-Z][A-Za-z]*Index"),
}
"""Packages whose classes hold data, and what such a class is called."""
_TOOLS: Final = (
    "sklearn._cyutility",
    "sklearn.callback",
    "sklearn.datasets",
    "sklearn.externals",
    "sklearn.inspection",
    "sklearn.tests",
    "sklearn.utils._available_if",
    "sklearn.utils._repr_html",
    "sklearn.utils._show_versions",
    "sklearn.utils._test_common",
    "sklearn.utils._testing",
    "sklearn.utils.discovery",
    "sklearn.utils.estimator_checks",
    "sklearn.utils.parallel",
)
"""Parts of those packages that do things."""
_TORCH: Final[dict[str, str]] = {
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter",
    "torch": (
        "BFloat16Storage BoolStorage ByteStorage CharStorage DoubleStorage FloatStorage HalfStorage IntStorage "
        "LongStorage ShortStorage Size bfloat16 bool device dtype float16 float32 float64 int16 int32 int64 int8 uint8"
    ),
    "torch.storage": "TypedStorage UntypedStorage",
    "collections": "OrderedDict",
}
_ALLOWED: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


_STATE_ONLY: Final = ("xgboost", "lightgbm")
"""Packages whose classes read files if they are called with arguments; their own pickles never do that."""


class Policy:
    """What is allowed. `extra` are `module:name`s that whoever packages the model vouches for."""

    def __init__(self, extra: Collection[str] = ()) -> None:
        for name in extra:
            if not _ALLOWED.fullmatch(name):
                raise InvalidPackage(f"{name!r} is no name to allow; write module:name, such as mypackage.steps:Clean")
        self.extra = frozenset(extra)

    def allows(self, name: Global, *, called: bool = False, torch: bool = False) -> bool:
        """Whether a pickle may refer to it.

        Args:
            called: it is called with arguments.
            torch: it is in one of PyTorch's archives.
        """
        if str(name) in self.extra:
            return True
        if called and any(_within(name.module, package) for package in _STATE_ONLY):
            return False
        if torch:
            return name.name in _TORCH.get(name.module, "").split()
        # Dots in a name are attributes of attributes: `sklearn:utils.os.system`.
        if "." in name.name:
            return False
        if name.name in _EXACT.get(name.module, "").split():
            return True
        if any(_within(name.module, tool) for tool in _TOOLS):
            return False
        return any(_within(name.module, package) and form.fullmatch(name.name) for package, form in _PACKAGES.items())


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
