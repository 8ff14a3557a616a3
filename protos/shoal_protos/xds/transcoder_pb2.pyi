from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GrpcJsonTranscoder(_message.Message):
    __slots__ = ("proto_descriptor_bin",)
    PROTO_DESCRIPTOR_BIN_FIELD_NUMBER: _ClassVar[int]
    proto_descriptor_bin: bytes
    def __init__(self, proto_descriptor_bin: _Optional[bytes] = ...) -> None: ...
