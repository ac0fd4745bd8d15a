"""For spark-submit: takes the arguments of ``mnist-spark ingest``.

spark-submit --properties-file conf/spark-defaults.conf jobs/ingest.py --target TABLE
"""

import sys

from mnist_spark.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
