"""Raise the limit of open descriptors: a run of hundreds of tasks needs several for each."""

from __future__ import annotations

import resource

from .._process import spawn_with_descriptor_limit


def raise_descriptor_limit() -> None:
    """Raise our soft limit to the hard one; children keep the old one (getrlimit(2)).

    A program that uses select(2) breaks with descriptors above 1023, which is why the soft limit is low by default, and
    why children must not inherit ours.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # refused by a sandbox, or the hard limit is above fs.nr_open
        return
    spawn_with_descriptor_limit(soft, hard)
