"""The core's views in the words of `mmesh.ModelMesh`."""

from __future__ import annotations

from typing import Final

from shoal.core.types import CopyState, EndpointView, ModelState, ModelView, Transition
from shoal_protos.mmesh import model_mesh_pb2 as pb

_MODEL: Final = {
    ModelState.PENDING: pb.ModelStatusInfo.NOT_LOADED,
    ModelState.STANDBY: pb.ModelStatusInfo.NOT_LOADED,
    ModelState.LOADING: pb.ModelStatusInfo.LOADING,
    ModelState.LOADED: pb.ModelStatusInfo.LOADED,
    ModelState.FAILED_TO_LOAD: pb.ModelStatusInfo.LOADING_FAILED,
}
_COPY: Final = {
    CopyState.QUEUED: pb.ModelStatusInfo.LOADING,
    CopyState.LOADING: pb.ModelStatusInfo.LOADING,
    CopyState.LOADED: pb.ModelStatusInfo.LOADED,
}
_TRANSITION: Final = {
    Transition.UP_TO_DATE: pb.VModelStatusInfo.DEFINED,
    Transition.IN_PROGRESS: pb.VModelStatusInfo.TRANSITIONING,
    Transition.BLOCKED_BY_FAILED_LOAD: pb.VModelStatusInfo.TRANSITION_FAILED,
}


def model_status(view: ModelView | None) -> pb.ModelStatusInfo:
    """Status of a model; NOT_FOUND for None. Copies that are on their way out are not listed."""
    if view is None:
        return pb.ModelStatusInfo(status=pb.ModelStatusInfo.NOT_FOUND)
    copies = [(copy.since, copy.pod, _COPY[copy.state]) for copy in view.copies if copy.state in _COPY]
    copies += [(f.at, f.pod, pb.ModelStatusInfo.LOADING_FAILED) for f in view.failures if f.pod]
    return pb.ModelStatusInfo(
        status=_MODEL[view.state],
        errors=[failure.message for failure in view.failures],
        modelCopyInfos=[
            pb.ModelStatusInfo.ModelCopyInfo(location=pod, copyStatus=status, time=int(at * 1000))
            for at, pod, status in sorted(copies, reverse=True)
        ],
    )


def vmodel_status(view: EndpointView | None, owner: str) -> pb.VModelStatusInfo:
    """Status of an alias; NOT_FOUND for None, with an active model that is not found either."""
    if view is None:
        return pb.VModelStatusInfo(status=pb.VModelStatusInfo.NOT_FOUND, activeModelStatus=model_status(None))
    changing = view.active != view.target
    return pb.VModelStatusInfo(
        status=_TRANSITION[view.transition],
        activeModelId=view.active,
        targetModelId=view.target,
        activeModelStatus=model_status(view.active_model),
        targetModelStatus=model_status(view.target_model) if changing else None,
        owner=owner,
    )
