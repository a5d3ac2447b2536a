"""The benchmarks: `python -m bench [NAME...]`. Every figure is compared with peers run in the same minute."""
