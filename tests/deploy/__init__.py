"""What is deployed, and how: the chart, the systemd unit, what a release has beside the packages."""
