"""Sets up the supervisor."""

from stream.config.table import NonNegative, PositiveFloat, Table


class UpTable(Table):
    """The supervisor."""

    max_restarts: NonNegative = 8
    """Restarts of one worker within restart_window_s before the run is given up."""
    restart_window_s: PositiveFloat = 300.0
    """Window of max_restarts."""
    backoff_s: PositiveFloat = 1.0
    """Wait before the first restart; doubles up to 30 s."""
    healthy_s: PositiveFloat = 60.0
    """A worker that ran for so long was well: its next restart is as its first."""
    hang_s: PositiveFloat = 120.0
    """A worker without a heartbeat for so long, while others send theirs, is killed and restarted; so is one that a SIGSTOP
    holds, whatever it was about."""
    stop_timeout_s: PositiveFloat = 15.0
    """Time a worker has to stop by itself before it is killed."""
    report: bool = True
    """Write the report when the run ends."""
    metrics_port: NonNegative = 0
    """First port of the workers' Prometheus endpoints, one each; 0 for none."""
