"""Questions to a folder of results, in the libraries that are installed: python query.py RESULTS"""

import sys
from importlib.util import find_spec

from posert.runtime.results import read

folder = sys.argv[1]
people = sum(len(batch.people.xy) for batch in read(folder))  # posert's own reader: numpy arrays, many frames at a time
print(f"posert: {people} people")

if find_spec("duckdb"):
    import duckdb

    busiest = duckdb.sql(f"select file, max(people) from '{folder}/frames/*.parquet' group by file order by 2 desc")
    print("duckdb: most people in one frame:", busiest.limit(1).fetchall()[0][1])
if find_spec("polars"):
    import polars

    score = polars.scan_parquet(f"{folder}/people/*.parquet").select(polars.col("nose_score").mean()).collect()
    print(f"polars: mean score of the noses: {score.item():.2f}")
if find_spec("pandas"):
    import pandas

    table = pandas.read_parquet(f"{folder}/frames")
    empty, failed = (table["people"] == 0).sum(), table["people"].isna().sum()
    print(f"pandas: frames in which nobody is: {empty}, frames that failed: {failed}")
