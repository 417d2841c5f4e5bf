"""The process node: a small kubelet stand-in that runs each container as a local process. Started by control_plane.

Reading order: kube (the API), nodes and registrar (Nodes for pools), pods (one worker per Pod), worker (the life of a
Pod), sources, volumes, environment, fields, rewriting, addresses (what its containers see), containers and supervisor
(processes), status (what is reported), logs (kubectl logs), claims (PersistentVolumeClaims), __main__ (all, wired).
"""
