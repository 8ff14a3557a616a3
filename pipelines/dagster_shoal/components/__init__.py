"""Models and clusters in YAML: `dg scaffold defs dagster_shoal.ShoalModelComponent fraud`."""

from dagster_shoal.components.cluster import ShoalClusterComponent as ShoalClusterComponent
from dagster_shoal.components.model import ShoalModelComponent as ShoalModelComponent
