"""Dagster assets for models on Shoal: train, validate, package, publish, and roll out progressively.

from dagster_shoal import LocalModelStore, ModelDefinition, ShoalResource, build_model_definitions
"""

from dagster_shared.libraries import DagsterLibraryRegistry

from dagster_shoal.components import ShoalClusterComponent as ShoalClusterComponent
from dagster_shoal.components import ShoalModelComponent as ShoalModelComponent
from dagster_shoal.config import ApproveConfig as ApproveConfig
from dagster_shoal.config import RollbackConfig as RollbackConfig
from dagster_shoal.config import RolloutConfig as RolloutConfig
from dagster_shoal.config import SteerConfig as SteerConfig
from dagster_shoal.config import TrainConfig as TrainConfig
from dagster_shoal.config import rollout_form as rollout_form
from dagster_shoal.factory import ModelAssets as ModelAssets
from dagster_shoal.factory import build_model_assets as build_model_assets
from dagster_shoal.factory import build_model_definitions as build_model_definitions
from dagster_shoal.model import Budget as Budget
from dagster_shoal.model import DataGate as DataGate
from dagster_shoal.model import Dataset as Dataset
from dagster_shoal.model import Evaluation as Evaluation
from dagster_shoal.model import MetricGate as MetricGate
from dagster_shoal.model import ModelDefinition as ModelDefinition
from dagster_shoal.model import Rows as Rows
from dagster_shoal.resource import ShoalResource as ShoalResource
from dagster_shoal.stages import MODELS as MODELS
from dagster_shoal.stages import Stage as Stage
from dagster_shoal.store import LocalModelStore as LocalModelStore
from dagster_shoal.store import ModelStore as ModelStore
from dagster_shoal.store import S3ModelStore as S3ModelStore
from dagster_shoal.translator import ShoalProps as ShoalProps
from dagster_shoal.translator import ShoalTranslator as ShoalTranslator
from dagster_shoal.version import __version__ as __version__

DagsterLibraryRegistry.register("dagster-shoal", __version__, is_dagster_package=False)
