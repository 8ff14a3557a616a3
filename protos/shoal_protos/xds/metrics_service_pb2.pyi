from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricFamily(_message.Message):
    __slots__ = ("name", "metric")
    class Label(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: str
        def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class Bucket(_message.Message):
        __slots__ = ("cumulative_count", "upper_bound")
        CUMULATIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
        UPPER_BOUND_FIELD_NUMBER: _ClassVar[int]
        cumulative_count: int
        upper_bound: float
        def __init__(self, cumulative_count: _Optional[int] = ..., upper_bound: _Optional[float] = ...) -> None: ...
    class Histogram(_message.Message):
        __slots__ = ("sample_count", "sample_sum", "bucket")
        SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
        SAMPLE_SUM_FIELD_NUMBER: _ClassVar[int]
        BUCKET_FIELD_NUMBER: _ClassVar[int]
        sample_count: int
        sample_sum: float
        bucket: _containers.RepeatedCompositeFieldContainer[MetricFamily.Bucket]
        def __init__(self, sample_count: _Optional[int] = ..., sample_sum: _Optional[float] = ..., bucket: _Optional[_Iterable[_Union[MetricFamily.Bucket, _Mapping]]] = ...) -> None: ...
    class Gauge(_message.Message):
        __slots__ = ("value",)
        VALUE_FIELD_NUMBER: _ClassVar[int]
        value: float
        def __init__(self, value: _Optional[float] = ...) -> None: ...
    class Metric(_message.Message):
        __slots__ = ("label", "gauge", "histogram")
        LABEL_FIELD_NUMBER: _ClassVar[int]
        GAUGE_FIELD_NUMBER: _ClassVar[int]
        HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
        label: _containers.RepeatedCompositeFieldContainer[MetricFamily.Label]
        gauge: MetricFamily.Gauge
        histogram: MetricFamily.Histogram
        def __init__(self, label: _Optional[_Iterable[_Union[MetricFamily.Label, _Mapping]]] = ..., gauge: _Optional[_Union[MetricFamily.Gauge, _Mapping]] = ..., histogram: _Optional[_Union[MetricFamily.Histogram, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    name: str
    metric: _containers.RepeatedCompositeFieldContainer[MetricFamily.Metric]
    def __init__(self, name: _Optional[str] = ..., metric: _Optional[_Iterable[_Union[MetricFamily.Metric, _Mapping]]] = ...) -> None: ...

class StreamMetricsMessage(_message.Message):
    __slots__ = ("envoy_metrics",)
    ENVOY_METRICS_FIELD_NUMBER: _ClassVar[int]
    envoy_metrics: _containers.RepeatedCompositeFieldContainer[MetricFamily]
    def __init__(self, envoy_metrics: _Optional[_Iterable[_Union[MetricFamily, _Mapping]]] = ...) -> None: ...

class StreamMetricsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
