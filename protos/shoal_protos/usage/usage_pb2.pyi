from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Used(_message.Message):
    __slots__ = ("route", "requests")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    route: str
    requests: int
    def __init__(self, route: _Optional[str] = ..., requests: _Optional[int] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("used",)
    USED_FIELD_NUMBER: _ClassVar[int]
    used: _containers.RepeatedCompositeFieldContainer[Used]
    def __init__(self, used: _Optional[_Iterable[_Union[Used, _Mapping]]] = ...) -> None: ...
