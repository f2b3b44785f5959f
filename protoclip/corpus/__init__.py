"""Many pictures through a model into Parquet, in parts that are written once each; on one machine or several."""
