"""An Airflow 3 DAG: every night, refresh the tables of ``refresh.toml``.

Copy it into the DAGs folder. The workers need ``mnist-spark`` on their PATH, with its extras. The
Airflow variable ``mnist_spark_config`` says where the configuration is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

CONFIG = "{{ var.value.get('mnist_spark_config', '/etc/mnist-spark/refresh.toml') }}"

with DAG(
    dag_id="mnist_spark_refresh",
    description="Refresh the tables of refresh.toml; no new version where nothing has changed",
    schedule="17 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # The tables of yesterday are those of today: a night that was missed is never made up for.
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "execution_timeout": timedelta(minutes=30),
    },
    tags=["mnist"],
) as dag:
    BashOperator(
        task_id="refresh",
        # exec: a time-out's signal reaches mnist-spark itself, not a shell before it.
        bash_command=f'exec mnist-spark refresh --config "{CONFIG}" --log-format json',
        append_env=True,
    )
