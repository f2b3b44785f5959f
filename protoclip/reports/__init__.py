"""What pages and terminals share: charts, projections, thumbnails, tables."""
