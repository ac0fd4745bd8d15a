# Databricks notebook source
# MAGIC %md
# MAGIC # MNIST as a Unity Catalog table
# MAGIC
# MAGIC The driver downloads and checks the four files, executors decode them, and one commit makes
# MAGIC the rows visible. Run it again and the table is replaced in one commit.
# MAGIC
# MAGIC **Compute:** serverless, or a cluster of Databricks Runtime 17 or newer (Spark 4), in
# MAGIC standard or dedicated access mode. The smallest one will do. Executors need no library and
# MAGIC no internet.
# MAGIC
# MAGIC **Rights:** `USE CATALOG` on the catalog; `USE SCHEMA` and `CREATE TABLE` on the schema. For
# MAGIC a table of somebody else, `SELECT` and `MODIFY` on it. For files in a volume, `READ VOLUME`.

# COMMAND ----------

# MAGIC %pip install "mnist-spark[plot]"

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

# MAGIC %md
# MAGIC The folder of a volume that has the four files, or a URL; empty: Azure Open Datasets and its
# MAGIC mirrors, for which the driver needs the internet.

# COMMAND ----------

dbutils.widgets.text("table", "main.default.mnist", "Table: catalog.schema.table")
dbutils.widgets.dropdown("dataset", "mnist", ["mnist", "fashion-mnist", "kmnist"], "Dataset")
dbutils.widgets.dropdown("layout", "columns", ["columns", "array", "binary", "image"], "Layout")
dbutils.widgets.text("source", "", "Folder or URL of the files")

table = dbutils.widgets.get("table")
dataset = dbutils.widgets.get("dataset")
layout = dbutils.widgets.get("layout")
source = dbutils.widgets.get("source") or None

# COMMAND ----------

import mnist_spark

report = mnist_spark.ingest(dataset, target=table, layout=layout, source=source, spark=spark)
print(report.summary())

# COMMAND ----------

# MAGIC %md
# MAGIC With the layout `image`, the column `image` is shown as pictures here.

# COMMAND ----------

rows = spark.table(table)
display(rows.where("split = 'train' AND index < 10").orderBy("index"))

# COMMAND ----------

display(rows.groupBy("split", "label").count().orderBy("split", "label"))

# COMMAND ----------

display(mnist_spark.plot_digits(table))

# COMMAND ----------

# MAGIC %md
# MAGIC On to training, from the table. The arrays are in the order of the records, and PyTorch
# MAGIC takes them as they are (`torch.from_numpy(images)`). `mnist_spark.iter_table` yields
# MAGIC batches, in bounded memory. `shard=(rank, world_size)` is one of several trainers' part.

# COMMAND ----------

images, labels = mnist_spark.load_table(table, split="test")
print(images.shape, labels.shape, images.dtype)

# COMMAND ----------

# MAGIC %md
# MAGIC Which bytes the rows come from, and when they came.

# COMMAND ----------

display(spark.sql(f"SHOW TBLPROPERTIES {table}").where("key LIKE 'mnist_spark.%'"))
display(spark.sql(f"DESCRIBE HISTORY {table}").select("version", "timestamp", "operation"))

# COMMAND ----------

# What a job that runs this notebook as a task gets as its result.
dbutils.notebook.exit(f"{sum(report.rows.values())} rows in {report.target}")
