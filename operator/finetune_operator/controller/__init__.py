"""The world: the only folder that waits for anything. Read: process, reconcile, cluster, store, queue, handlers."""
