"""For spark-submit: takes the arguments of ``mnist-spark refresh``.

spark-submit --properties-file conf/spark-defaults.conf jobs/refresh.py --config conf/refresh.toml
"""

import sys

from mnist_spark.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["refresh", *sys.argv[1:]]))
