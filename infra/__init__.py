"""Launch and scale roles, run brokers, deploy files, dashboards."""
