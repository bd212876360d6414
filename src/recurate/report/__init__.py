"""One self-contained HTML file per run or forecast: reads results, computes none."""
