"""Where objects lie and how they are read and written: keys, stores, parquet files, landing, caches."""
