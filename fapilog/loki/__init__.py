"""What Grafana Loki takes and what it answers: streams of labels, lines, a push's body, refusals.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""
