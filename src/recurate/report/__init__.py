"""Reports: sections, charts and self-contained HTML pages of results that other modules compute."""
