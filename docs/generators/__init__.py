"""What the documentation site is made of besides the pages in docs/: `make docs` calls it through `hook.py`."""
