"""The programs that tests and benchmarks start beside Shoal's own, and how each is had without root.

`python -m tools [NAME ...]` fetches what is missing into `.tools/`, which is part of the checkout and ignored by git.
`known` is the one table of them: it also tells pytest and the benchmarks what there is, and what to do about the rest.
"""
