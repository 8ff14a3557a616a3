"""The version of this package, the same as its distribution's."""

__version__ = "0.1.0"
