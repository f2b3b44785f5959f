"""Parts of HTML pages and terminal output: charts, projections, thumbnails, tables."""
