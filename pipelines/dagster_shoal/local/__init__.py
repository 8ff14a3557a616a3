"""Everything on one machine by one command: the embedded cluster, the Dagster UI, its daemon and a code server."""
