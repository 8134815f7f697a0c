"""Schedules: runs of any definition at times that a cron expression or an interval gives."""
