from shoal_protos.mmesh import model_runtime_pb2 as _model_runtime_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchStateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class State(_message.Message):
    __slots__ = ("status", "message", "incarnation", "capacity_bytes", "max_loading_concurrency", "model_loading_timeout_ms", "default_model_size_bytes", "runtime_version", "models", "process_bytes", "method_id_paths", "incidents", "recycling", "drains", "cpu_pressure")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STARTING: _ClassVar[State.Status]
        READY: _ClassVar[State.Status]
        FAILING: _ClassVar[State.Status]
    STARTING: State.Status
    READY: State.Status
    FAILING: State.Status
    class Doing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LOADING: _ClassVar[State.Doing]
        ANSWERING: _ClassVar[State.Doing]
    LOADING: State.Doing
    ANSWERING: State.Doing
    class Model(_message.Message):
        __slots__ = ("model_id", "size_bytes")
        MODEL_ID_FIELD_NUMBER: _ClassVar[int]
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        model_id: str
        size_bytes: int
        def __init__(self, model_id: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...
    class Suspect(_message.Message):
        __slots__ = ("model_id", "doing", "requests")
        MODEL_ID_FIELD_NUMBER: _ClassVar[int]
        DOING_FIELD_NUMBER: _ClassVar[int]
        REQUESTS_FIELD_NUMBER: _ClassVar[int]
        model_id: str
        doing: State.Doing
        requests: int
        def __init__(self, model_id: _Optional[str] = ..., doing: _Optional[_Union[State.Doing, str]] = ..., requests: _Optional[int] = ...) -> None: ...
    class Incident(_message.Message):
        __slots__ = ("id", "kind", "message", "suspects", "complete")
        class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            DIED: _ClassVar[State.Incident.Kind]
            HUNG: _ClassVar[State.Incident.Kind]
        DIED: State.Incident.Kind
        HUNG: State.Incident.Kind
        ID_FIELD_NUMBER: _ClassVar[int]
        KIND_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        SUSPECTS_FIELD_NUMBER: _ClassVar[int]
        COMPLETE_FIELD_NUMBER: _ClassVar[int]
        id: int
        kind: State.Incident.Kind
        message: str
        suspects: _containers.RepeatedCompositeFieldContainer[State.Suspect]
        complete: bool
        def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[State.Incident.Kind, str]] = ..., message: _Optional[str] = ..., suspects: _Optional[_Iterable[_Union[State.Suspect, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...
    class MethodIdPathsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: IdPath
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[IdPath, _Mapping]] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_LOADING_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    MODEL_LOADING_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    METHOD_ID_PATHS_FIELD_NUMBER: _ClassVar[int]
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    RECYCLING_FIELD_NUMBER: _ClassVar[int]
    DRAINS_FIELD_NUMBER: _ClassVar[int]
    CPU_PRESSURE_FIELD_NUMBER: _ClassVar[int]
    status: State.Status
    message: str
    incarnation: str
    capacity_bytes: int
    max_loading_concurrency: int
    model_loading_timeout_ms: int
    default_model_size_bytes: int
    runtime_version: str
    models: _containers.RepeatedCompositeFieldContainer[State.Model]
    process_bytes: int
    method_id_paths: _containers.MessageMap[str, IdPath]
    incidents: _containers.RepeatedCompositeFieldContainer[State.Incident]
    recycling: str
    drains: bool
    cpu_pressure: float
    def __init__(self, status: _Optional[_Union[State.Status, str]] = ..., message: _Optional[str] = ..., incarnation: _Optional[str] = ..., capacity_bytes: _Optional[int] = ..., max_loading_concurrency: _Optional[int] = ..., model_loading_timeout_ms: _Optional[int] = ..., default_model_size_bytes: _Optional[int] = ..., runtime_version: _Optional[str] = ..., models: _Optional[_Iterable[_Union[State.Model, _Mapping]]] = ..., process_bytes: _Optional[int] = ..., method_id_paths: _Optional[_Mapping[str, IdPath]] = ..., incidents: _Optional[_Iterable[_Union[State.Incident, _Mapping]]] = ..., recycling: _Optional[str] = ..., drains: _Optional[bool] = ..., cpu_pressure: _Optional[float] = ...) -> None: ...

class IdPath(_message.Message):
    __slots__ = ("field_numbers",)
    FIELD_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    field_numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, field_numbers: _Optional[_Iterable[int]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PrefetchResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
