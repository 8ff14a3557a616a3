"""The protocols Shoal speaks: sources (`.proto`) and, beside them, the code generated from them by `make protos`."""
