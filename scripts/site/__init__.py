"""The documentation as a site: `python -m scripts.site`."""
