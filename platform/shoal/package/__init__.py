"""Model packages: a model with all that is known of it, content-addressed, signed, and published as a whole.

May be imported by pipelines, the command line, the controller and the mesh; imports `shoal.resources` and `shoal.oip`
only. Building, signing and scanning need the extra `package`; reading, verifying and the mesh's gate do not.
"""
