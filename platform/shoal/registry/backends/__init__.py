"""Where records can be stored: each module of this folder is a backend, and its name begins the URLs that choose it."""
