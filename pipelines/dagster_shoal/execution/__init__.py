"""Where models are trained other than in the run's own process: a subprocess, a pod, or elsewhere before.

Each is a `Trainer` for `ModelDefinition(trainer=...)`. `dagster_k8s` is imported when a pod is asked for, since that
takes 1.5 seconds and a cluster.
"""

from dagster_shoal.execution.artifact import ArtifactTrainer as ArtifactTrainer
from dagster_shoal.execution.pod import PodTrainer as PodTrainer
from dagster_shoal.execution.script import ScriptTrainer as ScriptTrainer
