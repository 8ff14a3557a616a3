"""Sensors: what makes a model trained or rolled out without anybody pressing a button, and what keeps the UI truthful.

Each tick is bounded in time and in run requests and goes on, next time, where it stopped; so a thousand models need
more ticks, not longer ones.
"""

from dagster_shoal.sensors.abandoned import abandoned_rollout_sensors as abandoned_rollout_sensors
from dagster_shoal.sensors.data import new_data_sensor as new_data_sensor
from dagster_shoal.sensors.drift import drift_sensor as drift_sensor
from dagster_shoal.sensors.metrics import Decline as Decline
from dagster_shoal.sensors.metrics import Reading as Reading
from dagster_shoal.sensors.metrics import SourceError as SourceError
from dagster_shoal.sensors.metrics import from_prometheus as from_prometheus
from dagster_shoal.sensors.metrics import from_rollouts as from_rollouts
from dagster_shoal.sensors.mirror import rollout_mirror_sensor as rollout_mirror_sensor
from dagster_shoal.sensors.packages import new_packages_sensor as new_packages_sensor
