"""The course in JupyterLab, as a reader sees it: Chromium opens, runs and measures each lesson."""
