"""The command line's commands; :mod:`recurate.cli` puts them together. They import as they run."""
