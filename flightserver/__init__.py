"""A lakehouse that speaks Arrow: Parquet in object storage, served over Arrow Flight SQL."""
