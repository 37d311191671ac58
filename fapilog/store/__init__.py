"""Read the embedded store: a directory of segments and Parquet files, through DuckDB."""
