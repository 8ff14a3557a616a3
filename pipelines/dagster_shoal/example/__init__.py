"""The example code location: a digit classifier, from data to endpoint (`dagster_shoal.example.definitions`)."""
