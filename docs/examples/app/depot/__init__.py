"""A depot for files: upload one, and a worker packs it with gzip. The tutorial of trio-process builds it.

`store` is the database, `worker` packs, `web` serves HTTP, and `python -m depot` runs all of them as one program.
"""
