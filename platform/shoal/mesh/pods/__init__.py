"""The adapters of runtime pods: what they report and what is asked of them."""
