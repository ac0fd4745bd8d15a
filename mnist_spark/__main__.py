"""``python -m mnist_spark`` is ``mnist-spark``."""

import sys

from mnist_spark.cli.main import main

sys.exit(main())
