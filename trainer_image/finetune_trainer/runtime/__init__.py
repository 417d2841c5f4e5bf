"""What every part of a run stands on: ranks, heartbeat, interruption, progress."""
